"""Run chapters: one, all, with presets, as figures or over a grid."""
