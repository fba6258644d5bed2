"""The kinds of small weights, and where the WebUI looks for each below its models folder."""

ADETAILER, ESRGAN, REALESRGAN = "adetailer", "esrgan", "realesrgan"
FOLDERS = {ADETAILER: "adetailer", ESRGAN: "ESRGAN", REALESRGAN: "RealESRGAN"}
