"""The loops of a function, and what runs before the last of those in which it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iced_x86 import FlowControl

from hotmend.image.body import Body

_ENDS = (FlowControl.RETURN, FlowControl.INDIRECT_BRANCH, FlowControl.EXCEPTION)


@dataclass(frozen=True, slots=True)
class Phases:
    """Instruction indexes of a function that waits in a loop, or calls one that does.

    Attributes:
        before: what runs at most once, before it waits for good.
        waiting: where it waits: the loop, or the one call.
        returns: an instruction that returns can be reached from there.
    """

    before: frozenset[int]
    waiting: frozenset[int]
    returns: bool


def successors(body: Body) -> list[list[int]]:
    """Return for each instruction which ones may follow it; branches through tables lead anywhere unseen."""
    at = {i.ip: n for n, i in enumerate(body.instructions)}
    result: list[list[int]] = []
    for n, form in enumerate(body.forms):
        flow = form.flow_control
        following: list[int] = []
        if flow in (FlowControl.CONDITIONAL_BRANCH, FlowControl.UNCONDITIONAL_BRANCH):
            target = body.instructions[n].near_branch_target
            if target in at:
                following.append(at[target])
        if flow != FlowControl.UNCONDITIONAL_BRANCH and flow not in _ENDS and n + 1 < len(body.instructions):
            following.append(n + 1)
        result.append(following)
    return result


def components(following: list[list[int]]) -> list[int]:
    """Return the strongly connected component of each node, numbered so that successors have lower numbers (Tarjan)."""
    count = len(following)
    number, low, component = [-1] * count, [0] * count, [-1] * count
    stack: list[int] = []
    clock = found = 0
    for root in range(count):
        if number[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, k = work.pop()
            if k == 0:
                number[node] = low[node] = clock
                clock += 1
                stack.append(node)
            if k < len(following[node]):
                work.append((node, k + 1))
                other = following[node][k]
                if number[other] < 0:
                    work.append((other, 0))
                elif component[other] < 0:
                    low[node] = min(low[node], number[other])
                continue
            if low[node] == number[node]:
                while True:
                    member = stack.pop()
                    component[member] = found
                    if member == node:
                        break
                found += 1
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
    return component


def phases(body: Body, waits: Callable[[int], bool], loops: Callable[[int], bool]) -> Phases | None:
    """Split a function at the last place where it waits for good; None where there is none.

    Args:
        body: the function.
        waits: whether the instruction of an index is a call that may wait.
        loops: whether it is a call of a function that has such a loop itself.
    """
    following = successors(body)
    component = components(following)
    sizes: dict[int, int] = {}
    for k in component:
        sizes[k] = sizes.get(k, 0) + 1
    places = {
        component[n]
        for n in range(len(following))
        if loops(n) or ((sizes[component[n]] > 1 or n in following[n]) and waits(n))
    }
    if not places:
        return None
    reached = _reached(following, component)
    last = {k for k in places if not (reached[k] - {k}) & places}
    before = frozenset(n for n, k in enumerate(component) if k not in last and reached[k] & last)
    waiting = frozenset(n for n, k in enumerate(component) if k in last)
    ends = {k for n, k in enumerate(component) if body.forms[n].flow_control == FlowControl.RETURN}
    return Phases(before, waiting, any(reached[k] & ends for k in last))


def _reached(following: list[list[int]], component: list[int]) -> list[set[int]]:
    """Return the components that each component leads to, itself included; successors have lower numbers."""
    members: list[list[int]] = [[] for _ in range(max(component) + 1)]
    for n, k in enumerate(component):
        members[k].append(n)
    interesting: list[set[int]] = []
    for k, nodes in enumerate(members):
        result = {k}
        for n in nodes:
            for other in following[n]:
                if component[other] != k:
                    result |= interesting[component[other]]
        interesting.append(result)
    return interesting
