"""The fast CPU path: a chain of steps on one image, as a small interpreter over pixel kernels.

`run_steps` walks through a sample's records (`dalipipe.decisions`). Steps that only rename coordinates (flips, crops
inside the image, resizes to the same size) cost nothing: they change a *view*. Steps that compute pixels (resize,
affine map, crop with padding) work row by row: a row of levels, four bytes a pixel, is made and then emitted,
into a scratch image for the next step or, after the last such step, straight into the output: flipped, normalised and
in the output's layout and type.

Only the region that later steps look at is computed (`dalipipe.decisions.regions`), and each pixel is computed from its
absolute coordinates, so that its value does not depend on the region. Loops over pixels have no branch that depends on
data; where a tap falls outside the image its weight becomes zero.

A kernel takes a record, a `View` (where pixels lie in memory, which region of the logical image that is, and whether it
lies there mirrored), the region to make, and an `Output`; it returns the view of what it made.
"""

from dalipipe.backends.kernels.chain import TABLE, run_steps
from dalipipe.backends.kernels.views import finish_of, output_in, view_in

__all__ = ["TABLE", "finish_of", "output_in", "run_steps", "view_in"]
