"""What one emitter looks like: PSF models with derivatives, rendering and calibration."""
