"""What people see: the tab and the settings section. gradio is imported only while they are built."""
