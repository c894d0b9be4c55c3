"""What the tests of asked data sets share."""

import pytest


@pytest.fixture
def files(make_image_folder):
    return sorted(str(path) for path in make_image_folder().glob("*/*"))
