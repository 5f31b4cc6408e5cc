"""The tree of a pass: rows that begin alike share what they begin with, and nothing is padded.

    <sys> Classify. <user> What  is a leap year ? <assistant> DESC
                                 films featured Popeye ? <assistant> ENTY
                           Who   was Galileo ? <assistant> HUM

Everything but attention treats tokens one by one, so a token that several rows begin with is run once, and its gradient
is the sum over those rows: exact, since what a token sees are its ancestors, whatever row it is read in. Only attention
spreads the tokens out into rows, one beside the other, each causal: rows never see each other. Rows of about the same
length make a block, since a block is as wide as its longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import MissingExtra
from luthier.models.packing import common_prefix
from luthier.train.rows import TrainRow

try:
    import torch
    import torch.nn.functional as functional
    from transformers import AttentionInterface
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

ATTENTION = "luthier-tree"
# how far two ways of the same sum in fp32 may differ, relative to the largest logit
TOLERANCE = 1e-4
# a block's shortest row is longer than this share of its longest: more blocks cost calls, fewer cost padding
ALIKE = 2 / 3


@dataclass(frozen=True, eq=False)
class Tree:
    """The distinct tokens of some rows, without each row's last, which is only ever predicted.

    ids, positions: [tokens]; paths: the tokens of each row; blocks: (rows, longest) of each block; places: [places],
    the token at each place of each row of each block (0 where the row has ended); home: [tokens], the one place from
    which the token's own output is read; copies: the other places, as (tokens, places). predicting, targets, row_of:
    [labels], the token that predicts, what, and in which row.
    """

    ids: Any
    positions: Any
    paths: tuple[tuple[int, ...], ...]
    blocks: tuple[tuple[int, int], ...]
    places: Any
    home: Any
    copies: tuple[Any, Any]
    predicting: Any
    targets: Any
    row_of: Any

    @property
    def tokens(self) -> int:
        return len(self.ids)


def grow(rows: Sequence[TrainRow], device: Any = "cpu") -> Tree:
    """The tree of these rows."""
    token_of: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    positions: list[int] = []
    paths: list[list[int]] = []
    labels: list[tuple[int, int, int]] = []
    for index, row in enumerate(rows):
        path: list[int] = []
        for position, token_id in enumerate(row.input_ids[:-1]):
            key = (path[-1] if path else -1, token_id)
            if key not in token_of:
                token_of[key] = len(ids)
                ids.append(token_id)
                positions.append(position)
            path.append(token_of[key])
        paths.append(path)
        labels += [(path[at - 1], row.input_ids[at], index) for at in range(row.labels_from, len(row.input_ids))]
    blocks = _blocks([len(path) for path in paths])
    places: list[int] = []
    home: dict[int, int] = {}
    copies: list[tuple[int, int]] = []
    for block in blocks:
        longest = len(paths[block[0]])
        for index in block:
            for place, token in enumerate(paths[index], start=len(places)):
                if home.setdefault(token, place) != place:
                    copies.append((token, place))
            places += paths[index] + [0] * (longest - len(paths[index]))

    def tensor(values: Any) -> Any:
        return torch.tensor(values, dtype=torch.long, device=device)

    predicting, targets, row_of = (tensor(column) for column in zip(*labels, strict=True))
    copied = tensor(copies).reshape(-1, 2)
    return Tree(
        ids=tensor(ids),
        positions=tensor(positions),
        paths=tuple(map(tuple, paths)),
        blocks=tuple((len(block), len(paths[block[0]])) for block in blocks),
        places=tensor(places),
        home=tensor([home[token] for token in range(len(ids))]),
        copies=(copied[:, 0], copied[:, 1]),
        predicting=predicting,
        targets=targets,
        row_of=row_of,
    )


def _blocks(lengths: Sequence[int]) -> list[list[int]]:
    """The rows of each block, its longest first.

    >>> _blocks([20, 75, 31, 30])
    [[1], [2, 3], [0]]
    """
    blocks: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        if not blocks or lengths[index] <= ALIKE * lengths[blocks[-1][0]]:
            blocks.append([])
        blocks[-1].append(index)
    return blocks


def fill(rows: Sequence[TrainRow], limit: int) -> list[list[int]]:
    """Indices of rows, in passes whose trees have at most `limit` tokens; a row above the limit runs alone.

    Rows that begin alike come behind each other, so that they share a pass.
    """
    passes: list[list[int]] = []
    before: tuple[int, ...] = ()
    size = 0
    for index in sorted(range(len(rows)), key=lambda at: rows[at].input_ids):
        ids = rows[index].input_ids[:-1]
        # in sorted order no earlier row shares more with this one than the row before it
        new = len(ids) - common_prefix([before, ids])
        if not passes or size + new > limit:
            passes.append([])
            size, new = 0, len(ids)
        passes[-1].append(index)
        size, before = size + new, ids
    return passes


class _Spread(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """[tokens, width] -> [places, width]. Its own backward: torch's would add place by place, in a slow loop."""

    @staticmethod
    def forward(ctx: Any, values: Any, tree: Tree) -> Any:
        ctx.tree = tree
        return values.index_select(0, tree.places)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), tree = grads, ctx.tree
        tokens, places = tree.copies
        total = grad.index_select(0, tree.home)
        if len(tokens):
            total.index_add_(0, tokens, grad.index_select(0, places))
        return total, None


class _Collect(torch.autograd.Function):  # type: ignore[misc]
    """[places, width] -> [tokens, width], each token from its home."""

    @staticmethod
    def forward(ctx: Any, values: Any, tree: Tree) -> Any:
        ctx.tree, ctx.places = tree, len(values)
        return values.index_select(0, tree.home)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        total = grad.new_zeros(ctx.places, grad.shape[1])
        total[ctx.tree.home] = grad
        return total, None


def tree_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    *,
    tree: Tree,
    **_unused: Any,  # what else transformers hands to every attention function
) -> tuple[Any, None]:
    """Attention over a tree, as transformers calls it: query, key, value are [1, heads, tokens, width of a head]."""
    spread = [_Spread.apply(values[0].transpose(0, 1).reshape(tree.tokens, -1), tree) for values in (query, key, value)]
    heads = [values.shape[1] for values in (query, key, value)]
    mixed, begin = [], 0
    for rows, longest in tree.blocks:
        end = begin + rows * longest
        q, k, v = (
            flat[begin:end].view(rows, longest, some, -1).transpose(1, 2)
            for flat, some in zip(spread, heads, strict=True)
        )
        mask = None
        if sliding_window is not None and longest > sliding_window:
            place = torch.arange(longest, device=query.device)
            apart = place[:, None] - place[None, :]
            mask = (apart >= 0) & (apart < sliding_window)
        one = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
        mixed.append(one.transpose(1, 2).reshape(rows * longest, -1))
        begin = end
    flat = _Collect.apply(torch.cat(mixed), tree)
    return flat.view(1, tree.tokens, heads[0], -1), None


AttentionInterface.register(ATTENTION, tree_attention)


def label_logits(module: Any, tree: Tree, *, shared: bool) -> Any:
    """The logits at the tree's labels, [labels, vocabulary]; nothing else is projected on the vocabulary.

    `shared` runs the tree as it is, in a module whose attention is `ATTENTION`; otherwise row by row, as any model can.
    """
    if shared:
        output = module(
            input_ids=tree.ids[None],
            position_ids=tree.positions[None],
            use_cache=False,
            logits_to_keep=tree.predicting,
            tree=tree,
        )
        return output.logits[0]
    logits = []
    for row in range(len(tree.paths)):
        # one row: its path up to the last token that predicts; each token of it stands once
        wanted = tree.predicting[tree.row_of == row]
        path = torch.tensor(tree.paths[row], device=tree.ids.device)
        at = torch.stack([(path == token).nonzero()[0, 0] for token in wanted])
        ids = tree.ids[path[: int(at.max()) + 1]]
        logits.append(module(input_ids=ids[None], use_cache=False, logits_to_keep=at).logits[0])
    return torch.cat(logits)


def why_not_shared(module: Any, rows: Sequence[TrainRow]) -> str | None:
    """Whether the model gives the same logits in a tree as row by row, by trying; None: it does, else why not.

    A model with state beyond attention, or with attention of its own making, would mix its rows up in a tree.
    """
    by_length = sorted(rows, key=lambda row: len(row.input_ids))
    tree = grow([by_length[0], by_length[-1]], module.device)  # the longest: attention may change beyond some distance
    plain_attention = module.config._attn_implementation
    with torch.no_grad():
        plain = label_logits(module, tree, shared=False)
        try:
            module.config._attn_implementation = ATTENTION
            treed = label_logits(module, tree, shared=True)
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            return f"it does not take a tree: {error}"
        finally:
            module.config._attn_implementation = plain_attention
    apart = float((plain - treed).abs().max() / plain.abs().max())
    return None if apart <= TOLERANCE else f"its logits differ by {apart:.1g} in a tree"
