"""What the benchmark asks of every method, as checks that anyone's test suite can run.

`validate_output` is cheap enough for every batch of a real run. `check_method` tries a whole method on made-up clips
and labels at the sizes of a preset, one tiny fit included::

    from stp_bench.contract import check_method

    def test_my_method_keeps_the_contract():
        assert check_method(SPEC) == []

The single checks are in `CHECKS`; each takes a `Trial` and raises the `MethodError` that says what is asked.
"""

from stp_bench.contract._checks import CHECKS, check_method
from stp_bench.contract._output import validate_output, violation
from stp_bench.contract._trial import Trial

__all__ = ["CHECKS", "Trial", "check_method", "validate_output", "violation"]
