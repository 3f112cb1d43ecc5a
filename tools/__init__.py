"""Programs run by make: demo, playground, bench, image builder and generators."""
