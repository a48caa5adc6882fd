"""What layers without parameters share: nothing to learn, and one cost for the input's gradient."""

from __future__ import annotations

from .cost import ZERO, Cost
from .layer import Backward, Parameter, Saved, gradients, wants
from .tensor import TensorSpec


class Parameterless:
    """A base for layers without parameters; they state `output`, `forward` and `input_gradient`."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return ()

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    @property
    def shares_storage(self) -> bool:
        """Whether the output lies in the input's memory: in place, a view, or the input itself."""
        return False

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """The cost of the inputs' gradients, where any is needed."""
        raise NotImplementedError

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """The gradients of the inputs that need one; without any there is no work."""
        flags = wants(needs_input_grad, inputs)
        cost = self.input_gradient(*inputs)  # evaluated always: an input that does not fit raises either way
        return Backward(input_gradients=gradients(flags, inputs), input=cost if any(flags) else ZERO)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Nothing, unless the layer says otherwise."""
        return ()
