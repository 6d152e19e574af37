"""What computes the U-Net of a sampling step."""

import sys

# OpenVINO tells its maker of each import if it finds this package, and is silent without it.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
