r"""Attention between all nodes of a graph, whose edges come in as positions or as biases.

Papers: Dwivedi and Bresson 2020; Ying et al. 2021 (Graphormer); Rampášek et al. 2022 (GPS)
Axes: n nodes in all, b graphs, s nodes of the largest graph, f features, k positions, h heads.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.graph._positions import Packing


class GraphTransformer(nn.Module):
    r"""A transformer whose tokens are nodes: all see all, and edges enter through positions alone.

    $\mathbf h_i^0 = \mathbf W\mathbf x_i + \mathbf C\mathbf p_i$, then layers of a transformer,
    norms first, over the nodes of each graph (equation `graph-attention-embedding`). Without
    positions and without `mask` it cannot see an edge.

    Args:
        in_features: of a node, ≥ 1.
        out_features: of a node, ≥ 1.
        embed_dim: width of the layers.
        num_heads: heads, which divide `embed_dim`.
        num_layers: layers, ≥ 1.
        num_positions: numbers that tell where a node stands; 0 for none.
        dropout: probability of dropping in training, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = GraphTransformer(3, 2, embed_dim=8, num_heads=2, num_positions=4)
        >>> model(torch.zeros(5, 3), torch.zeros(5, 4)).shape
        torch.Size([5, 2])

    Source: Dwivedi and Bresson 2020, who let a node see its neighbours only: their form is a `mask`
    of the edges. With `DistanceBias` as `mask` it attends as Graphormer does.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        embed_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        num_positions: int = 0,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features = checks.count("in_features", in_features)
        self.num_positions = checks.count("num_positions", num_positions, least=0)
        e = checks.count("embed_dim", embed_dim)
        self.embed = nn.Linear(in_features, e, **like)
        self.embed_positions = (
            nn.Linear(num_positions, e, bias=False, **like) if num_positions else None
        )
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(
                e, num_heads, 2 * e, dropout, "gelu", norm_first=True, **like
            )
            for _ in range(checks.count("num_layers", num_layers))
        )
        self.norm = LayerNorm(e, **like)
        self.head = nn.Linear(e, checks.count("out_features", out_features), **like)

    def forward(
        self,
        x: Float[Tensor, "n f"],
        positions: Float[Tensor, "n k"] | None = None,
        batch: Int[Tensor, " n"] | None = None,
        *,
        mask: Tensor | None = None,
    ) -> Float[Tensor, "n _"]:
        """Return a row for each node.

        Args:
            x: features of the nodes.
            positions: where they stand, if the model was made with `num_positions`.
            batch: for each node, the number of its graph, in order; None is a single graph.
            mask: True where a node may look, or numbers added to the scores; broadcast to b h s s,
                in the places that `Packing` gives.
        """
        n = checks.tensor("x", x, shape=("n", self.in_features), floating=True).shape[0]
        if (positions is None) != (self.num_positions == 0):
            given = "none were" if positions is None else "they were"
            raise ValueError(
                f"positions with num_positions={self.num_positions}: {given} given"
            )
        hidden = self.embed(x)
        if positions is not None and self.embed_positions is not None:
            shape = (n, self.num_positions)
            checks.tensor("positions", positions, shape=shape, floating=True)
            hidden = hidden + self.embed_positions(
                positions
            )  # eq. graph-attention-embedding
        packing = Packing(batch, n, x.device)
        packed = packing.pack(hidden)
        key_mask = None if bool(packing.real.all()) else packing.real
        for layer in self.layers:
            packed = layer(packed, mask=mask, key_mask=key_mask)
        return self.head(self.norm(packing.unpack(packed)))


class DistanceBias(nn.Module):
    r"""A number for each distance and head, to be added to scores: $e_{ij} + b_{\phi(i, j)}$.

    Equation `graph-attention-distance`. All begin with 0, where it changes nothing.

    Args:
        num_heads: heads h, ≥ 1.
        most: the longest path that is told apart, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> bias = DistanceBias(num_heads=2, most=3)
        >>> bias(torch.tensor([[[0, 1], [1, 0]]])).shape
        torch.Size([1, 2, 2, 2])

    Source: Ying et al. 2021, whose $b_{\phi(v_i, v_j)}$ this is.
    """

    def __init__(
        self,
        num_heads: int,
        most: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        rows = checks.count("most", most) + 2
        self.table = nn.Embedding(
            rows, checks.count("num_heads", num_heads), device=device, dtype=dtype
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set all biases to zero."""
        nn.init.zeros_(self.table.weight)

    def forward(self, lengths: Int[Tensor, "b s s"]) -> Float[Tensor, "b h s s"]:
        """Return the biases; `lengths` as from `shortest_paths` with the same `most`."""
        rows = self.table.num_embeddings
        checks.tokens("lengths", lengths, rows, shape=("b", "s", "s"), of="most + 2")
        return self.table(lengths).permute(0, 3, 1, 2)


class GPSLayer(nn.Module):
    r"""A layer over edges and attention over all nodes, side by side, then a small network.

    $\mathbf h^{\ell} = \mathrm{norm}(\mathbf h + \mathrm{local}(\mathbf h, E))$,
    $\mathbf h^{g} = \mathrm{norm}(\mathbf h + \mathrm{attention}(\mathbf h))$ and
    $\mathbf h' = \mathrm{norm}(\mathbf s + \mathrm{mlp}(\mathbf s))$ with $\mathbf s =
    \mathbf h^\ell + \mathbf h^g$ (equation `graph-attention-gps`).

    Args:
        local: a layer that is called with features and `edge_index` and keeps their width.
        embed_dim: width of the features.
        num_heads: heads, which divide `embed_dim`.
        dropout: probability of dropping in training, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> from nnlib.graph._gat_layers import GATv2Layer
        >>> layer = GPSLayer(GATv2Layer(8, 4, num_heads=2), embed_dim=8, num_heads=2)
        >>> layer(torch.randn(3, 8), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([3, 8])

    Source: Rampášek et al. 2022; their norms are those of batches, as here.
    """

    def __init__(
        self,
        local: nn.Module,
        embed_dim: int,
        num_heads: int = 1,
        dropout: float = 0.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if not isinstance(local, nn.Module):
            raise TypeError(
                f"local must be a torch.nn.Module, got {type(local).__name__}"
            )
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv = local
        self.attn = MultiHeadAttention(embed_dim, num_heads, **like)
        self.embed_dim = self.attn.embed_dim
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, 2 * embed_dim, **like),
            nn.ReLU(),
            nn.Dropout(checks.number("dropout", dropout, least=0, most=1)),
            nn.Linear(2 * embed_dim, embed_dim, **like),
            nn.Dropout(dropout),
        )
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.BatchNorm1d(embed_dim, **like)
        self.norm2 = nn.BatchNorm1d(embed_dim, **like)
        self.norm3 = nn.BatchNorm1d(embed_dim, **like)

    def forward(
        self,
        x: Float[Tensor, "n e"],
        edge_index: Int[Tensor, "2 m"],
        batch: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n e"]:
        """Return new features, as wide as the old.

        Args:
            x: features of the nodes.
            edge_index: for the layer over edges.
            batch: for each node, the number of its graph, in order; None is a single graph.
        """
        n = checks.tensor("x", x, shape=("n", self.embed_dim), floating=True).shape[0]
        over_edges = self.norm1(x + self.dropout(self.conv(x, edge_index)))
        packing = Packing(batch, n, x.device)
        seen = self.attn(packing.pack(x), key_mask=packing.real)
        over_all = self.norm2(x + self.dropout(packing.unpack(seen)))
        both = over_edges + over_all
        return self.norm3(both + self.mlp(both))  # eq. graph-attention-gps
