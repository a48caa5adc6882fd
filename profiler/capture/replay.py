"""A step replayed on fake tensors: which blocks it would ask for, and when each would be given back.

A storage is a block: opened when an operator returns it, closed when it dies. What happens inside an operator cannot be
seen here: a call notes what it was made with, so that it can be learnt elsewhere. Where the replayed step goes another
way than a real one would, because there is a dispatch mode, the log says what the real one would do.

A Python number is a tensor of eight bytes, which is never dispatched, and which autograd may keep: its node shows it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from .autograd import NO_SEQUENCE_NUMBER, current_node, next_sequence_number
from .followed import Call, Closed, Entry, Followed, Storages, without_overload
from .forms import Form, Layout, call_form, laid_out, layout_of
from .in_place import WRITTEN, InPlace
from .saving import SavedTensors
from .tensors import tensors_in
from .values import UNTOLD, Values
from .whose import OUTSIDE, Work

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_DEVICE = torch.ops.prim.device.default
_LIFT = "aten.lift_fresh.default"
_LOOKS = ("aten._unsafe_view.default", "aten._local_scalar_dense.default", _LIFT)  # no views, and no work either
_UNSEEN = ("prim.", "profiler.")  # operators that hold no memory
_NUMBER_BYTES = 8


class Replay(TorchDispatchMode):
    """The mode that follows storages. It must be the innermost of all, above the fake one.

    Outside of `recording` it only keeps up with what is alive; `whose` says whose work is going on, and `built` that
    the workload has been made. `layouts` are the results of real calls, by their forms: a replayed call of that form
    gives results like those, whatever fake tensors make of it.
    """

    supports_higher_order_operators = True

    def __init__(self, layouts: Mapping[Form, tuple[Layout, ...]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log: list[Entry] = []
        self.storages = Storages(self._closed)
        self.in_place = InPlace(self.storages.block_of)
        self.values = Values()
        self.given: list[Followed] = []  # tensors that the step was found to use, and that were there before
        self.built = False
        self.whose: Callable[[], Work] = lambda: OUTSIDE
        self._layouts = layouts
        self._recording = False
        self._names: dict[int, str] = {}
        self._views: set[str] = set()
        self._last_call: Call | None = None
        self._pending: tuple[weakref.ref[Tensor], Call] | None = None
        self._keeps_number: set[int] = set()  # autograd nodes that keep a Python number
        self._wrote_into_view = False  # by the last call
        self._looks_anew: set[int | None] = set()  # autograd nodes of views that were taken again
        self._saving = SavedTensors(self._mark_saved)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Write the log."""
        self._recording = True
        try:
            yield
            self._settle()
        finally:
            self._recording = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = self._names.get(id(func))
        if name is None:
            name = self._meet(func)
        if not name:
            return args[0].fake_device if func is _DEVICE else func(*args, **kwargs)
        if torch.is_inference_mode_enabled():
            result = self._taken_apart(func, args, kwargs)
            if result is not NotImplemented:
                return result
        if name != _LIFT:
            self._meet_arguments(args)
        if self._recording:
            return self._recorded(func, name, args, kwargs)
        if self.in_place.counting:
            self.in_place.note(name, args)
        result = self._run(func, name, args, kwargs, OUTSIDE)
        self._follow_all(result, without_overload(name))
        return result

    def _recorded(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        self._settle()
        work, node, into = self.whose(), current_node(), None
        if node is not None:
            self._saving.visit(node)
        if name in WRITTEN and self.in_place.would_write(name, node, args, self._last_call):
            into, name = self.storages.block_of(args[0]), WRITTEN[name]
        call = self._call(call_form(name, args, kwargs, self._opaque), work, name not in self._views)
        result = self._run(func, name, args, kwargs, work)
        if call.form in self._layouts:
            result = laid_out(result, self._layouts[call.form], self.storages.block_of)
        if into is not None:
            self._sum(into, args, result)
        self._note_results(call, node, args, result)
        if torch.is_grad_enabled():
            self._note_writing(func, name, args)
            self._pending = next(((weakref.ref(tensor), call) for tensor in tensors_in(result)), None)
        return result

    def _call(self, form: Form, work: Work, has_inside: bool) -> Call:
        """Before it is made: what is given back meanwhile comes after."""
        call = self._last_call = Call(form, work, _number(current_node()), has_inside)
        call.makes_numbers = call.node not in self._keeps_number
        self.log.append(call)
        return call

    def _note_results(self, call: Call, node: Any, args: Any, result: Any) -> None:
        if call.node in self._looks_anew and call.form[1] in self._views:
            call.results = self._moved(result, call)
        else:
            call.results = self._follow_all(result, call.operator, call)
        call.layouts = tuple([layout_of(tensor) for tensor in tensors_in(result)])
        if call.work[1] == "accumulation" and node is not None:
            self._note_gradient(node, args, result)

    def _meet(self, func: Any) -> str:
        """The operator's name, "" where it holds no memory."""
        name = str(func)
        self._names[id(func)] = name = "" if name.startswith(_UNSEEN) else name
        if getattr(func, "is_view", False) or name in _LOOKS:
            self._views.add(name)
        return name

    def _taken_apart(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Under inference mode composite operators arrive whole."""
        if not isinstance(func, torch._ops.OpOverload):
            return NotImplemented
        if not torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            return NotImplemented
        with self:
            return func._op_dk(_COMPOSITE, *args, **kwargs)

    def _run(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], work: Work) -> Any:
        # Between building and recording the step reads what it will read again when it is recorded.
        where = work if self._recording else None if not self.built else UNTOLD
        return self.values.run(func, name, args, kwargs, where)

    # Storages ---------------------------------------------------------------------------------------------------------

    def _follow_all(self, result: Any, operator: str, call: Call | None = None) -> tuple[Followed | None, ...]:
        return tuple([self._follow(tensor, operator, call) for tensor in tensors_in(result)])

    def _follow(self, tensor: Tensor, operator: str, call: Call | None) -> Followed | None:
        """A new block for the tensor's storage; None where that is followed already, or there is none."""
        if tensor.layout is not torch.strided:
            return None
        known = self.storages.block_of(tensor)
        size = tensor.untyped_storage().nbytes()
        if known is not None and (known.bytes == size or known.holders > 1):
            return None
        block = Followed(size, self.whose() if call is None else call.work, operator, call)
        (self.storages.follow if known is None else self.storages.replace)(tensor, block)
        return block

    def _moved(self, view: Tensor, call: Call) -> tuple[Followed | None, ...]:
        """What a real step copies there (see `_note_writing`)."""
        call.form = ()
        block = Followed(view.untyped_storage().nbytes(), call.work, "aten.new_zeros", call)
        self.storages.replace(view, block)
        return (block,)

    def _sum(self, into: Followed, args: Any, result: Tensor) -> None:
        """The result stands for the block that a real step would have written it into."""
        self.storages.follow(result, into)
        into.sums += filter(None, map(self.storages.block_of, tensors_in(args[1])))

    def opened(self) -> Iterator[Followed]:
        """The blocks of the log, in order."""
        for entry in self.log:
            if isinstance(entry, Call):
                yield from entry.kept_numbers
                yield from (block for block in entry.results if block is not None)

    def mark_given(self, tensor: Tensor) -> None:
        """The model was given this tensor."""
        block = self.storages.block_of(tensor)
        if block is not None:
            block.given = True

    def _mark_saved(self, tensor: Tensor) -> None:
        block = self.storages.block_of(tensor)
        if block is not None:
            block.saved = True

    def note(self, tensor: Tensor) -> None:
        """A tensor was made that no operator returned."""
        if not self._recording:
            self._follow(tensor, "", None)
            return
        self._settle()
        call = self._call((), self.whose(), has_inside=False)
        call.results = self._follow_all(tensor, "", call)

    def _meet_arguments(self, args: Any) -> None:
        """Tensors that no operator returned: real ones from outside, and copies of storages."""
        for tensor in tensors_in(args):
            if tensor.layout is torch.strided and self.storages.block_of(tensor) is None:
                block = Followed(tensor.untyped_storage().nbytes(), OUTSIDE)
                self.storages.follow(tensor, block)
                if self._recording:
                    self.given.append(block)

    def _closed(self, block: Followed) -> None:
        if self._recording:
            self.log.append(Closed(block, self.whose(), _number(current_node())))

    def _opaque(self, tensor: Tensor) -> Form | None:
        """The call that made these bytes: only its kind can say what is in them."""
        block = self.storages.block_of(tensor)
        call = None if block is None else block.made_by
        if block is None or call is None or block not in call.results:
            return None
        return "result", call.form, call.results.index(block)

    # What autograd keeps ----------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """By now the last call has its autograd node, and that shows what it keeps."""
        if self._pending is None:
            return
        (reference, call), self._pending = self._pending, None
        result = reference()
        # A view's node may be in the making just now, by what is being dispatched: asking for it would wait for ever.
        node = None if result is None or result._is_view() else result.grad_fn
        if node is None:
            return
        for kept in self._saving.of(node):
            if kept.ndim or isinstance(kept, FakeTensor):
                self._mark_saved(kept)
                continue
            self._keeps_number.add(node._sequence_nr())
            if self.storages.block_of(kept) is None:
                block = Followed(_NUMBER_BYTES, call.work, made_by=call)
                self.storages.follow(kept, block)
                call.kept_numbers.append(block)

    def _note_writing(self, func: Any, name: str, args: Any) -> None:
        """Once a view has been written into, autograd takes the view again, by itself, for a node of its own: its
        gradient is copied in a real step, and looked at anew in a replayed one."""
        if self._wrote_into_view and name in self._views:
            self._looks_anew.add(next_sequence_number() - 1)
        written = args[0] if func._schema.is_mutable and args else None
        self._wrote_into_view = isinstance(written, Tensor) and written._is_view()

    def _note_gradient(self, node: Any, args: Any, result: Any) -> None:
        """What autograd's last node for a parameter is given, and what it makes of it, are its gradient."""
        if node._sequence_nr() != NO_SEQUENCE_NUMBER or not isinstance(node.variable, nn.Parameter):
            return
        for tensor in (*tensors_in(args), *tensors_in(result)):
            block = self.storages.block_of(tensor)
            if block is not None:
                block.gradient_of = id(node.variable)


def _number(node: Any) -> int | None:
    return None if node is None else node._sequence_nr()
