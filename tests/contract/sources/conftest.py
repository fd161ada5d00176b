"""The suite is no test module itself, so pytest has to be told that what it asserts is to be explained."""

import pytest

pytest.register_assert_rewrite("tests.contract.sources.suite")
