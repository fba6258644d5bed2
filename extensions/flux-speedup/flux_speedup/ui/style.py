"""The page's style. Colours come from gradio's theme variables; ours have a light and a dark value."""

from __future__ import annotations

# gradio colours whatever stands in its HTML component, hence "important" on colours that carry a meaning.
# A style element inside the page: a tab's own `css` argument is lost when a WebUI renders it into its page.
CSS = """
.fsu { --fsu-good: #15803d; --fsu-calm: #57606a; --fsu-bad: #b91c1c; --fsu-wait: #a15c00; --fsu-info: #1d4ed8;
  --fsu-bar: #4f46e5;
  color: var(--body-text-color); font-size: 14px; line-height: 1.45; overflow-wrap: anywhere; }
.dark .fsu { --fsu-good: #4ade80; --fsu-calm: #a3acb8; --fsu-bad: #f87171; --fsu-wait: #fbbf24;
  --fsu-info: #93c5fd; --fsu-bar: #818cf8; }
.fsu * { box-sizing: border-box; }
.fsu-card { background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: 12px; padding: 16px 18px; }
.fsu-head { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; margin-bottom: 14px; }
.fsu-name { font-size: 22px; font-weight: 700; letter-spacing: -0.01em; line-height: 1.2; }
.fsu-title { font-size: 15px; font-weight: 650; margin: 0 0 8px; }
.fsu-soft { color: var(--fsu-calm) !important; }
.fsu bdi { color: inherit !important; }
.fsu-small { font-size: 12.5px; }
.fsu-push { margin-left: auto; }
.fsu-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 10px; }
.fsu-tile { background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  border-radius: 10px; padding: 11px 13px; min-width: 0; }
.fsu-figure { font-size: 24px; font-weight: 700; line-height: 1.25; font-variant-numeric: tabular-nums; }
.fsu-badge { --c: var(--fsu-calm); display: inline-block; color: var(--c) !important;
  border: 1px solid var(--c);
  border-radius: 999px; padding: 1px 10px; font-size: 12px; font-weight: 600; line-height: 1.5;
  white-space: nowrap;
  background: color-mix(in srgb, var(--c) 12%, transparent); }
.fsu-applied { --c: var(--fsu-good); } .fsu-failed { --c: var(--fsu-bad); }
.fsu-pending { --c: var(--fsu-wait); } .fsu-put-back { --c: var(--fsu-info); }
.fsu-rows { margin-top: 10px; border-top: 1px solid var(--border-color-primary); }
.fsu-row { display: grid; grid-template-columns: 84px minmax(130px, 5fr) 7fr; gap: 2px 12px; padding: 8px 0;
  align-items: baseline; border-bottom: 1px solid var(--border-color-primary); }
.fsu-row:last-child { border-bottom: 0; padding-bottom: 0; }
.fsu-none { padding-top: 8px; }
.fsu-item { font-weight: 600; }
.fsu-stage { display: grid; grid-template-columns: minmax(110px, 30%) 1fr 64px; gap: 12px; padding: 4px 0;
  align-items: center; }
.fsu-track { height: 10px; border-radius: 5px; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); overflow: hidden; }
.fsu-fill { height: 100%; background: var(--fsu-bar); border-radius: 5px; }
.fsu-number { text-align: right; font-variant-numeric: tabular-nums; }
.fsu-notice { border: 1px solid var(--fsu-wait); color: var(--body-text-color); border-radius: 12px;
  padding: 12px 16px; margin-bottom: 12px; background: color-mix(in srgb, var(--fsu-wait) 12%, transparent); }
.fsu-notice b { color: var(--fsu-wait) !important; font-size: 16px; }
.fsu-result { border-left: 3px solid var(--fsu-good); padding: 2px 12px; }
.fsu-result.fsu-wrong { border-left-color: var(--fsu-bad); }
.fsu-panel { gap: 12px; background: var(--block-background-fill) !important; border-radius: 12px !important;
  border: 1px solid var(--border-color-primary) !important; padding: 16px 18px !important; }
.fsu-panel .form, .fsu-panel .block { background: transparent; }
button.fsu-refresh { align-self: flex-end; flex-grow: 0; width: auto; min-width: 132px; }
.fsu-keep .wrap { flex-direction: column; gap: 6px; }
.fsu-keep .wrap label { width: 100%; overflow-wrap: anywhere; }
.fsu-panel button { white-space: nowrap; padding-left: 8px; padding-right: 8px;
  min-width: max-content !important; }
.fsu details { margin-top: 10px; } .fsu summary { cursor: pointer; }
@media (max-width: 640px) {
  .fsu-card, .fsu-panel { padding: 13px 14px !important; }
  .fsu-tile { padding: 9px 10px; }
  .fsu-figure { font-size: 20px; }
  .fsu-row { grid-template-columns: 84px 1fr; }
  .fsu-why { grid-column: 1 / -1; }
  .fsu-stage { grid-template-columns: minmax(92px, 38%) 1fr 58px; gap: 8px; }
  .fsu-push { margin-left: 0; }
  .fsu-loads table { font-size: 12px !important; }
  .fsu-loads .cell-wrap, .fsu-loads td > div { padding: 6px !important; }
}
"""

STYLE = f"<style>{CSS}</style>"
