"""How the page looks: one theme, one style sheet, one colour a thing in light and dark.

The colours are Okabe and Ito's, which stay apart for colour-blind eyes; lines differ by dash as well.
"""

import gradio as gr

THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    radius_size="sm",
    spacing_size="sm",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
).set(
    body_background_fill="#f6f7f9",
    body_background_fill_dark="#0f1318",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_shadow="none",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    button_primary_background_fill="#0072b2",
    button_primary_background_fill_hover="#005f95",
    button_primary_background_fill_dark="#0072b2",
    button_primary_background_fill_hover_dark="#1a86c4",
    button_primary_text_color="white",
    slider_color="#0072b2",
    slider_color_dark="#56b4e9",
    checkbox_label_background_fill="transparent",
    checkbox_label_background_fill_dark="transparent",
    checkbox_label_background_fill_hover="transparent",
    checkbox_label_background_fill_hover_dark="transparent",
    checkbox_background_color_selected="#0072b2",
    checkbox_background_color_selected_dark="#0072b2",
)

CSS = """
:root { --data: #00805d; --noise: #c25400; --snr: #0072b2; --faint: #566170; --ground: #808080;
        --line: #d5dae1; --ink: #1b2430; --panel: #ffffff; --accent: #0072b2; }
.dark { --data: #2fc79a; --noise: #f28a3c; --snr: #56b4e9; --faint: #94a0b0; --line: #2b3440; --ink: #e8ecf1;
        --panel: #171c23; --accent: #56b4e9; }
:root, .dark { --color-accent: var(--accent); }
.gradio-container { width: 100%; max-width: 1440px !important; margin: 0 auto !important; padding: 0 !important; }
.gradio-container .main { padding: 20px clamp(12px, 3.2vw, 24px) 24px !important; max-width: none !important; }
.gradio-container main { padding: 0 !important; }
.gradio-container h1 { font-size: 1.5rem; font-weight: 700; margin: 0; letter-spacing: -0.01em; }
.gradio-container .head > .form { background: transparent; border: 0; flex: 0 1 auto; }
.gradio-container .lead p { color: var(--faint); margin: 0 0 4px; font-size: 0.95rem; }
.gradio-container .tabitem { padding: 12px 0 0 !important; border: 0; }
.work { display: grid !important; grid-template-columns: 320px minmax(0, 1fr); gap: 16px 20px; align-items: start; }
.work > * { min-width: 0 !important; background: var(--panel); border: 1px solid var(--line); border-radius: 8px; }
.controls { padding: 16px; gap: 18px !important; grid-row: 1 / span 2; }
.stage { padding: 16px 20px 18px; grid-column: 2; }
.stage .html-container { padding: 0 !important; }
.controls .form { background: transparent !important; border: 0; gap: 18px; box-shadow: none; overflow: visible; }
.controls .block { padding: 0 !important; overflow: visible; background: transparent; }
.controls [data-testid="block-info"], .controls label > span { font-weight: 700; color: var(--ink); font-size: 0.9rem; }
.controls [data-testid="block-info"] + div, .controls .info-text { font-size: 0.8rem; color: var(--faint); line-height: 1.35; }
.formula { font-size: 0.78rem; line-height: 1.45; color: var(--faint); margin: 3px 0 0; font-variant-numeric: tabular-nums; }
.with-die + .formula { margin-top: -14px; } .controls .head > label { flex: 1 1 0; min-width: 0; }
.controls .tab-like-container { flex: none; } .formula:empty { display: none; } .formula b { color: var(--ink); } .formula sub, .formula sup { line-height: 0; }
.main:has(#explanations input:not(:checked)) :is(.formula, .info-text) { display: none; }
.controls input[type=number], .controls .wrap-inner { border: 1px solid var(--line); border-radius: 6px; background: transparent; }
.controls .wrap-inner { padding: 3px 4px; } .controls input.border-none { background: transparent; }
.controls .container > .wrap { background: transparent; box-shadow: none; }
.chips .wrap { gap: 6px; }
.chips label { padding: 4px 10px !important; border: 1px solid var(--line) !important; border-radius: 999px !important;
               min-width: 36px; justify-content: center; background: transparent !important; box-shadow: none !important; }
.chips label input { position: absolute; opacity: 0; width: 1px; height: 1px; margin: 0; }
.chips label span { margin: 0 !important; font-weight: 400; }
.chips label.selected { background: #0072b2 !important; border-color: #0072b2 !important; }
.chips label.selected span { color: white !important; }
.chips label:focus-within, .gradio-container button:focus-visible, .gradio-container a:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
.with-die { align-items: flex-end !important; gap: 8px !important; flex-wrap: nowrap !important; }
.with-die > .form, .with-die > .block { flex: 1 1 auto !important; min-width: 0 !important; }
.die { flex: 0 0 76px !important; min-width: 76px !important; font-size: 0.95rem; line-height: 1; padding: 0 !important;
       height: 40px; font-weight: 400; }
.entrants .block { overflow-x: hidden !important; } .buttons { gap: 8px !important; flex-wrap: nowrap !important; }
.gradio-container button.secondary { border: 1px solid var(--line); background: transparent; color: var(--ink); }
.gradio-container button.secondary:hover { border-color: var(--accent); }
footer .divider { display: none !important; }

.pixels { image-rendering: pixelated; background: var(--ground); display: block; width: calc(var(--w) * var(--s) * 1px);
          height: calc(var(--h) * var(--s) * 1px); max-width: none; }
.row { display: flex; gap: 20px; flex-wrap: wrap; align-items: flex-start; }
.panel { margin: 0; } .panel figcaption { color: var(--faint); font-size: 0.85rem; margin: 0 0 6px; }
.panel figcaption b { color: var(--ink); font-weight: 700; }
.sum { display: flex; align-items: flex-end; gap: 18px; flex-wrap: wrap; margin-bottom: 16px; min-height: 312px; }
.sum .term { display: flex; align-items: center; gap: 12px; } .sum .term > * { flex: none; }
.sum .term b { font-weight: 400; font-size: 1.3rem; color: var(--ink); }
.sum .term figcaption b { font-size: 0.85rem; font-weight: 700; }
.sum .op { font-size: 1.3rem; font-variant-numeric: tabular-nums; min-width: 5ch; text-align: right; }
.sum .data { color: var(--data); } .sum .noise { color: var(--noise); }
.strip { display: inline-block; max-width: 100%; } .strip .pixels { max-width: 100%; height: auto; }
.strip-axis { position: relative; height: 24px; font-size: 0.8rem; color: var(--faint); font-variant-numeric: tabular-nums; }
.strip-axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; top: 8px; }
.strip-axis .at { top: -1px; color: var(--accent); font-size: 0.7rem; line-height: 1; }
.plots { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 20px; margin-top: 10px; }
svg.plot { width: 100%; height: auto; display: block; overflow: visible; font: 11px "IBM Plex Sans", system-ui, sans-serif; }
svg.plot path { stroke: var(--own); fill: none; } svg.plot circle { fill: var(--own); stroke: var(--panel); stroke-width: 1.5; }
svg.plot text { fill: var(--own, var(--faint)); } svg.plot .title { fill: var(--ink); font-size: 12px; font-weight: 700; }
svg.plot g text { paint-order: stroke; stroke: var(--panel); stroke-width: 3px; stroke-linejoin: round; font-weight: 700; }
svg.plot .axis { stroke: var(--line); } svg.plot .now { stroke: var(--ink); stroke-dasharray: 2 3; }
svg.plot .curve { stroke-width: 2; } svg.plot .other { stroke-width: 1.25; opacity: 0.75; }
svg.plot .bars { fill: var(--snr); stroke: none; opacity: 0.55; }
.plot .data { --own: var(--data); } .plot .noise { --own: var(--noise); } .plot .snr { --own: var(--snr); }
.vp_linear { --own: #0072b2; } .vp_cosine { --own: #c25400; } .vp_quadratic { --own: #00805d; } .sub_vp { --own: #a8528a; }
.ve { --own: #8a6d00; } .discrete { --own: #1b2430; }
.dark .vp_linear { --own: #56b4e9; } .dark .vp_cosine { --own: #f28a3c; } .dark .vp_quadratic { --own: #2fc79a; }
.dark .sub_vp { --own: #e39ac4; } .dark .ve { --own: #f0e442; } .dark .discrete { --own: #e8ecf1; }
.dpmpp_2m { --own: #0072b2; } .ddim { --own: #c25400; } .ddpm { --own: #8a6d00; } .heun { --own: #00805d; }
.euler { --own: #566170; } .rk45 { --own: #1b2430; } .reverse_sde { --own: #a8528a; } .predictor_corrector { --own: #b3261e; }
.dark .dpmpp_2m { --own: #56b4e9; } .dark .ddim { --own: #f28a3c; } .dark .ddpm { --own: #f0e442; } .dark .heun { --own: #2fc79a; }
.dark .euler { --own: #94a0b0; } .dark .rk45 { --own: #e8ecf1; } .dark .reverse_sde { --own: #e39ac4; }
.dark .predictor_corrector { --own: #ff8a80; }
svg.plot .interval { stroke-width: 1.5; opacity: 0.7; }
.result { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px 28px; } .result .wide { grid-column: 1 / -1; }
.result svg.plot { max-width: 420px; }
.measure { font-weight: 700; margin: 0; font-size: 0.95rem; } .big { font-size: 2.1rem; font-weight: 700; margin: 2px 0 0; line-height: 1.2;
  font-variant-numeric: tabular-nums; } .big .dim { font-size: 0.95rem; font-weight: 400; color: var(--faint); margin-left: 8px; }
.scale { position: relative; height: 46px; margin: 14px 0 2px; font-size: 0.8rem; color: var(--faint); font-variant-numeric: tabular-nums; }
.scale::before { content: ""; position: absolute; left: 0; right: 0; top: 9px; height: 2px; background: var(--line); }
.scale .bar { margin: 0; position: absolute; top: 5px; height: 10px; border-radius: 5px; background: var(--accent); opacity: 0.35; min-width: 4px; }
.scale .dot { position: absolute; top: 3px; width: 14px; height: 14px; margin-left: -7px; border-radius: 7px; background: var(--accent);
  border: 2px solid var(--panel); }
.scale .end { position: absolute; top: 20px; white-space: nowrap; } .scale .end.right { transform: translateX(-100%); }
.scale .end::before { content: ""; position: absolute; left: 0; top: -16px; height: 12px; width: 2px; background: var(--faint); }
.scale .end.right::before { left: auto; right: 0; } .scale .end b { color: var(--ink); }
table.numbers { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; border: 0 !important;
  margin: 0; }
table.numbers tr { border: 0 !important; }
#evaluate-table, #evaluate-table * { font-family: "IBM Plex Sans", system-ui, sans-serif !important; font-size: 0.82rem; }
#evaluate-table td, #evaluate-table th { font-variant-numeric: tabular-nums; }
table.numbers th, table.numbers td { border: 0; border-bottom: 1px solid var(--line); padding: 5px 0 5px 8px; text-align: right;
  background: transparent; color: var(--ink); }
table.numbers th { text-align: left; font-weight: 700; padding-left: 0; } table.numbers thead th { text-align: right; color: var(--faint);
  font-weight: 400; font-size: 0.8rem; } table.numbers small { display: block; font-weight: 400; color: var(--faint); font-size: 0.75rem; }
table.numbers td + td { color: var(--faint); } table.ladder td + td { color: inherit; } table.ladder { max-width: 420px; }
.comparison { display: grid; grid-template-columns: 130px minmax(0, 1fr); gap: 0 12px; align-items: start; margin-top: 8px; }
.comparison .names { display: grid; grid-template-rows: repeat(3, 1fr); font-size: 0.82rem; align-items: center;
  height: calc(var(--h) * var(--s) * 1px); margin-top: 22px; }
.comparison .scroll { overflow-x: auto; } .comparison .scroll > * { width: calc(var(--w) * var(--s) * 1px); }
.comparison .classes { display: grid; grid-template-columns: repeat(var(--columns), 1fr); font-size: 0.75rem; color: var(--faint);
  text-align: center; height: 22px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 0.82rem; color: var(--faint); margin: 10px 0 0; }
.legend i { display: inline-block; width: 18px; height: 0; border-top: 2px solid var(--own); margin-right: 6px;
            vertical-align: middle; }
.legend .bold { color: var(--ink); font-weight: 700; }
.line { font-variant-numeric: tabular-nums; color: var(--ink); margin: 12px 0 0; font-size: 0.95rem; min-height: 1.5em; }
.second .line { margin-top: 0; }
.line .dim, .note { color: var(--faint); } .note { font-size: 0.82rem; margin: 4px 0 0; }
.line a { color: var(--accent); font-weight: 700; text-decoration: underline; }
.actions { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: baseline; }
.actions button, .chosen button { border: 0; background: none; padding: 0; color: var(--accent); font-weight: 700; text-decoration: underline;
  font-size: inherit; cursor: pointer; }
.chosen { display: none; margin-left: 10px; font-size: 0.85rem; } .player.one .chosen { display: inline; }
.stage details { margin-top: 8px; font-size: 0.85rem; } .stage summary { color: var(--faint); cursor: pointer; }
.stage pre { overflow-x: auto; padding: 10px 12px; border: 1px solid var(--line); border-radius: 6px; font-size: 0.8rem; line-height: 1.45;
  background: transparent; color: var(--ink); }
.busy { display: inline-block; width: 120px; height: 6px; border-radius: 3px; background: var(--line); overflow: hidden;
        vertical-align: middle; margin-right: 8px; }
.busy i { display: block; height: 100%; background: var(--accent); }
.stage { position: relative; }
.stage[data-run=waiting]::after { content: "Waiting for its turn …"; position: absolute; top: 10px; right: 14px; padding: 4px 12px;
  border-radius: 999px; background: var(--accent); color: var(--panel); font-size: 0.85rem; animation: late 0.2s 0.7s backwards; }
@keyframes late { from { opacity: 0; } }
@media (prefers-reduced-motion: reduce) { *, .stage::after { transition: none !important; animation-duration: 0s !important; } }
.stop-word { display: none; } [data-run=stopped] .stop-word { display: inline; } [data-run=stopped] .busy, [data-run=stopped] .until { display: none; }
.player { display: flex; gap: 20px; flex-wrap: wrap; align-items: flex-start; }
.player .side { flex: 1 1 320px; min-width: 0; } .player .panels { display: flex; gap: 20px; flex-wrap: wrap; }
.sheet-box { width: calc(var(--w) * var(--s) * 1px); height: calc(var(--h) * var(--s) * 1px); }
.sheet { --z: var(--s); width: calc(var(--w) * var(--z) * 1px); height: calc(var(--h) * var(--z) * 1px);
         background-color: var(--ground); background-repeat: no-repeat; image-rendering: pixelated;
         background-size: calc(var(--w) * var(--z) * 1px) auto;
         background-position: calc(var(--x, 0) * var(--z) * -1px) calc((var(--k) * var(--h) + var(--y, 0)) * var(--z) * -1px); }
.player:has([data-act=tile]) .sheet { cursor: zoom-in; }
.player.one .sheet { --z: var(--z-one); width: calc(var(--tw) * var(--z) * 1px); height: calc(var(--th) * var(--z) * 1px);
                     cursor: zoom-out; }
.plane { position: relative; width: calc(var(--box) * 1px); max-width: 100%; aspect-ratio: 1; overflow: hidden; }
.plane > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.plane canvas { color: var(--own); } .plane .noise { --own: var(--noise); } .plane .data { --own: var(--data); }
.bar { display: flex; gap: 6px; align-items: center; margin: 12px 0 8px; }
.bar input[type=range] { flex: 1 1 80px; min-width: 60px; accent-color: var(--accent); height: 32px; margin: 0 4px; }
.bar button, .player select { height: 32px; padding: 0 10px; border: 1px solid var(--line); border-radius: 6px; color: var(--ink);
                              background: var(--panel); font-size: 0.9rem; }
.player select { padding: 0 4px; font-size: 0.85rem; appearance: auto; } .bar .play { min-width: 66px; }
.bar button:hover, .player select:hover { border-color: var(--accent); }
.player :is(input, select):focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.numbers { font-variant-numeric: tabular-nums; color: var(--ink); font-size: 0.95rem; min-height: 3em; }
.numbers p { margin: 0; } .which { display: block; margin-top: 8px; font-size: 0.85rem; color: var(--faint); } .player .note { margin: 8px 0 0; }
.lanes { display: flex; gap: 12px; flex: 1 1 100%; align-items: stretch; }
.lanes .names { display: grid; grid-auto-rows: 1fr; align-items: center; font-size: 0.85rem; color: var(--faint); }
.lanes .names b { color: var(--ink); } .lanes .path { position: relative; }
.lanes .at { position: absolute; top: -2px; bottom: -2px; width: calc(var(--tw) * var(--s) * 1px); box-sizing: content-box;
             left: calc((var(--k) * (var(--tw) + 1)) * var(--s) * 1px - 2px); border: 2px solid var(--accent); pointer-events: none; }
.player > .plots { flex: 1 1 100%; margin: 0; }
.player .plots .now { transform: translateX(calc(var(--k) * var(--pitch) * 1px)); }
.approach-a { --own: #c25400; } .approach-b { --own: #a8528a; } .approach-c { --own: #0072b2; }
.dark .approach-a { --own: #f28a3c; } .dark .approach-b { --own: #e39ac4; } .dark .approach-c { --own: #56b4e9; }
@media (min-width: 1101px) { .running.tall { min-height: 980px; } }
.run-0 { --own: #0072b2; } .run-1 { --own: #c25400; } .run-2 { --own: #00805d; } .run-3 { --own: #a8528a; } .run-4 { --own: #8a6d00; }
.run-5 { --own: #1b2430; } .dark .run-0 { --own: #56b4e9; } .dark .run-1 { --own: #f28a3c; } .dark .run-2 { --own: #2fc79a; }
.dark .run-3 { --own: #e39ac4; } .dark .run-4 { --own: #f0e442; } .dark .run-5 { --own: #e8ecf1; }
svg.plot .raw { stroke-width: 1; opacity: 0.3; } svg.plot .class-line { --own: var(--faint); stroke-width: 1; opacity: 0.5; }
svg.key { display: inline-block; width: 30px; height: 8px; margin-right: 8px; vertical-align: middle; }
@media (min-width: 601px) { .schedules .plots { grid-template-columns: repeat(2, minmax(0, 1fr)); max-width: 780px; } }
.key.data { --own: var(--data); } .key.noise { --own: var(--noise); } .key.snr { --own: var(--snr); }
svg.key path { stroke: var(--own); stroke-width: 2; fill: none; }
.stage h3 { font-size: 0.95rem; font-weight: 700; margin: 22px 0 10px; color: var(--ink); }
.growth { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 12px; align-items: center; font-size: 0.82rem;
          color: var(--faint); font-variant-numeric: tabular-nums; }
.growth b { color: var(--ink); } .growth .pixels { max-width: 100%; height: auto; aspect-ratio: var(--w) / var(--h); }
.growth div.pixels { background: transparent; outline: 1px dashed var(--line); outline-offset: -1px; }
.growth > span { min-width: 96px; } .logs { margin-top: 14px; } .stage .logs td, .stage .logs td:first-child { white-space: nowrap; }
.with-die .wrap-inner { min-height: 40px; }
.second .legend { margin-bottom: 8px; }
.warning { color: var(--noise); font-weight: 700; }
.squares { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 16px; }
svg.square { width: 100%; height: auto; display: block; font: 10px "IBM Plex Sans", system-ui, sans-serif; }
svg.square text { fill: var(--faint); } svg.square .why { text-anchor: middle; font-size: 11px; }
svg.square .ground { fill: transparent; stroke: var(--line); } svg.clickable { cursor: crosshair; }
svg.square .arrows { stroke: var(--ink); stroke-width: 1.1; fill: none; } svg.square .faint { opacity: 0.28; }
svg.square .dots { stroke: var(--own); stroke-width: 2.4; stroke-linecap: round; opacity: 0.75; }
.langevin { --own: #c25400; } .annealed { --own: #0072b2; } .ode { --own: #1b2430; }
.squares .data, .legend .data { --own: var(--data); } .squares .noise { --own: var(--noise); }
.dark .langevin { --own: #f28a3c; } .dark .annealed { --own: #56b4e9; } .dark .ode { --own: #e8ecf1; }
svg.plot .share { fill: var(--own); } svg.plot .truth { stroke: var(--ink); stroke-width: 2; }
.work + .work { margin-top: 16px; } .controls textarea { background: transparent; border: 1px solid var(--line); border-radius: 6px; }
.plots.wide { grid-template-columns: repeat(2, minmax(0, 1fr)) minmax(0, 1.6fr); } .quick { gap: 8px !important; flex-wrap: nowrap !important; } .quick button { height: 30px; font-weight: 400; }
#score-particles { min-height: 560px; } #score-particles:has(.busy) { min-height: var(--was); }
.plane { outline: 1px solid var(--line); } .plane svg.square .dots { stroke-width: 1.6; } .player .panel { max-width: 100%; }
.note .data { color: var(--data); } .note .noise { color: var(--noise); }
.rivals { border-collapse: collapse; font-size: 0.88rem; color: var(--ink); font-variant-numeric: tabular-nums; margin-top: 8px; }
.rivals th { text-align: left; color: var(--faint); font-weight: 400; font-size: 0.8rem; }
.stage .rivals :is(td, th) { padding: 4px 20px 4px 0; border: 0; border-bottom: 1px solid var(--line); }
.stage .rivals, .stage .rivals tr { border: 0; } .rivals td { white-space: nowrap; }
.rivals td > i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; background: var(--own); margin-right: 8px; }
.rivals td > i.meter { background: var(--snr); opacity: 0.6; }
.scroll { overflow-x: auto; }
.compare > .controls { grid-row: 1 / span 3; } .compare > .entrants { grid-column: 2; grid-row: 1; }
.compare > .second { min-height: 440px; }
.entrants > .row { display: grid !important; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 18px 20px; }
.entrants .lane { gap: 12px !important; } .entrants .form { gap: 12px; }
.race .panels { display: grid; grid-auto-flow: column; grid-template-rows: auto auto;
                grid-template-columns: repeat(var(--lanes), minmax(min-content, 1fr)); gap: 10px 20px; overflow-x: auto; }
.race > .line { margin: 0 0 12px; } .race .status { min-height: calc(200px + 1.6em * var(--lanes)); }
.race .panels .panel { min-width: 0; } .race.running .line { margin-top: 6px; } .race-results > .line { margin: 8px 0; }
.lane-name { color: var(--own) !important; }
.lanes-table :is(td, thead th) { white-space: nowrap; } .lanes-table td + td { color: var(--ink) !important; }
.lanes-table td, .lanes-table thead th + th { padding-left: 14px !important; }
.lanes-table thead th:first-child { text-align: left !important; } .lanes-table th { min-width: 170px; } .lanes-table a { color: var(--accent); text-decoration: underline; padding: 0; margin: 0; } .lanes-table thead th + th { min-width: 0; }
.race-results .scroll { overflow-x: auto; } .race-results .row { margin-top: 16px; gap: 28px; }
.race-results .curves { flex: 1 1 320px; max-width: 440px; } .race-results .curves:empty { display: none; }
.race-results .notes { flex: 1 1 280px; } .plot .reference { --own: var(--faint); }
@media (max-width: 1100px) {
  .work { grid-template-columns: minmax(0, 1fr); gap: 12px; }
  .work > .controls { grid-row: 2; grid-column: 1; } .work > .stage { grid-column: 1; grid-row: 1; }
  .work > .second { grid-row: 3; }
  .compare > .entrants { grid-row: 3; grid-column: 1; } .compare > .second { grid-row: 4; min-height: 0; }
  .controls > .buttons:not(.later) { order: -1; }
}
@media (max-width: 960px) {
  .pixels, .sheet-box, .lanes .at { --s: var(--s-small) !important; --z-one: var(--z-one-small) !important; }
  .squares { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .sum { display: grid; grid-template-columns: auto 1fr; gap: 4px 8px; min-height: 0; margin-bottom: 10px; align-items: end; }
  .sum > .panel { grid-row: 1 / span 2; } .sum .term { gap: 4px; } .sum .term b { font-size: 1rem; }
  .sum .op { font-size: 0.9rem; min-width: 6.5ch; } .sum .term figcaption { font-size: 0.75rem; margin-bottom: 2px; }
  .strip-axis span:nth-child(even):not(.at) { display: none; }
}
@media (max-width: 600px) {
  .growth > span { min-width: 0; width: 56px; } .growth .pixels { width: 100%; }
  .tab-container button { padding: 0 7px !important; font-size: 13px !important; } .head #explanations { margin: 0 !important; }
  .race .panels { grid-auto-flow: row; grid-template-rows: none; grid-template-columns: repeat(2, minmax(0, 1fr)); align-items: end; }
  .race .busy { width: 60px; } .lanes-table th { min-width: 130px; } .lanes-table td, .lanes-table thead th { white-space: normal; }
  h1 { font-size: 1.25rem; } .lanes .names span { display: none; }
  .result { grid-template-columns: minmax(0, 1fr); } .comparison { grid-template-columns: 70px minmax(0, 1fr); }
  .work > .stage { padding: 12px; } .plots, .plots.wide { grid-template-columns: 1fr; } .stage .rivals td, .stage .rivals th { padding-right: 8px; } .rivals td:first-child { white-space: normal; } .rivals td > i.meter { display: none; } .row { gap: 14px; }
}
"""
