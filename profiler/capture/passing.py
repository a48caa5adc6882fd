"""What calls pass to one another: whose output a tensor is, whose are the nodes made meanwhile, and where gradients of
what calls took and gave will arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import ref

from torch import Tensor, is_grad_enabled

from .attribution import NOBODY, SequenceTable
from .autograd import OUTSIDE_BACKWARD, next_sequence_number
from .expected import INPUT, ExpectedGradients, of_recipient
from .frames import Frame, Given


class CallAttribution:
    """Told what each call takes and gives. `stack` has the calls around it: it is not yet, or no longer, among them.
    `owner_of_call` says whose a finished call is.

    One tensor taken, and one given, go a short way: it must say what the long way would.
    """

    def __init__(
        self,
        table: SequenceTable,
        expected: ExpectedGradients,
        stack: list[Frame],
        owner_of_call: Callable[[int], int],
    ) -> None:
        self._table = table
        self._expected = expected
        self._stack = stack
        self._owner_of_call = owner_of_call
        # The tensor returned last; the number that the next node had then; and where its gradient arrives.
        self._latest: tuple[Callable[[], Tensor | None], int, int] = (_nothing, 0, 0)

    def owner_changes(self) -> None:
        """Nodes belong to the innermost call from now on."""
        stack = self._stack
        self._table.push(next_sequence_number(), stack[-1].slot.owner if stack else NOBODY)

    # What a call takes ------------------------------------------------------------------------------------------------

    def takes_one(self, frame: Frame, tensor: Tensor) -> None:
        """A tensor that needs a gradient, and nothing else."""
        if not is_grad_enabled():
            return
        latest, number, where = self._latest
        if latest() is not tensor or number != next_sequence_number():  # else nothing was done since it was returned
            where = self._expected.place_of(tensor)
        frame.expected = {where: 0}
        if self._stack and self._stack[-1].expected:
            self._stack[-1].expected.pop(where, None)

    def takes(self, frame: Frame, tensors: Sequence[Tensor], first: int = 0) -> None:
        """Tensors of any kind, the call's inputs from that position on."""
        if not is_grad_enabled():
            return
        outer = self._stack[-1].expected if self._stack else None
        for position, tensor in enumerate(tensors, first):
            if tensor.requires_grad:
                where = self._expected.place_of(tensor)
                if frame.expected is None:
                    frame.expected = {}
                frame.expected[where] = position
                if outer:
                    outer.pop(where, None)

    # What a call gives ------------------------------------------------------------------------------------------------

    def gives_one(self, frame: Frame, call: int, tensor: Tensor) -> None:
        """A tensor, by a call without calls inside it."""
        reference, stack, expected = ref(tensor), self._stack, self._expected
        if stack:
            outer = stack[-1]
            if outer.given is None:
                outer.given = Given()
            outer.given.add(reference)
        if frame.task != OUTSIDE_BACKWARD or not tensor.requires_grad:
            self._expect(frame, call, (tensor,))
        else:
            where = expected.place_of(tensor)
            self._latest = (reference, next_sequence_number(), where)
            expected.add_one(call, frame.expected, where)

    def gives(self, frame: Frame, call: int, tensors: Sequence[Tensor]) -> None:
        """Tensors, by a call of any kind."""
        if self._stack:
            outer = self._stack[-1]
            if outer.given is None:
                outer.given = Given()
            for tensor in tensors:
                outer.given.add(ref(tensor))
        self._expect(frame, call, tensors)

    def _expect(self, frame: Frame, call: int, tensors: Sequence[Tensor]) -> None:
        if frame.task != OUTSIDE_BACKWARD and frame.expected:
            self._leave_to_first_call(frame.expected, frame.slot.owner)
        place_of = self._expected.place_of
        places = [(position, place_of(tensor)) for position, tensor in enumerate(tensors) if tensor.requires_grad]
        self._expected.add_call(call, frame.expected, places)

    def _leave_to_first_call(self, places: dict[int, int], owner: int) -> None:
        """A recomputed call is given the tensors of the forward one, which expects their gradients already."""
        for where in list(places):
            calls = [of_recipient(each) for each in self._expected.expected_at(where)]
            if any(kind == INPUT and self._owner_of_call(call) == owner for call, kind, _ in calls):
                del places[where]


def _nothing() -> None:
    """In place of a weak reference: the tensor is gone."""
