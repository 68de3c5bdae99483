"""How sharp a picture is, to compare pictures of one place."""

import numpy as np

LONGEST = 640  # pixels of the reduced picture: what is blurred over fewer pixels than it leaves out does no harm


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) of uint8 [H, W, C], reduced; larger is sharper."""
    stride = -(-max(pixels.shape[:2]) // LONGEST)
    height, width = (side // stride * stride for side in pixels.shape[:2])
    grey = pixels[:height, :width, :3].astype(np.float32).mean(2)
    grey = grey.reshape(height // stride, stride, width // stride, stride).mean((1, 3))  # [h, w] means of squares
    if min(grey.shape) < 3:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4.0 * grey[1:-1, 1:-1]).var())
