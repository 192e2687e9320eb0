"""Every architecture of the book in one flat table; importing it costs nothing.

One row an architecture. The row feeds the chapter's card, the overview page, the family tree and
the contract tests, so adding an architecture needs no registration anywhere else. Classes are named
by string and imported only by `load`.
"""

import difflib
import importlib
from dataclasses import KW_ONLY, dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One row: what an architecture is, where it came from, what it costs and where it stands.

    Its test file, `tests/<family>/test_<name>.py`, has a tiny `example()` of it.

    A row without `module` is planned: its chapter is not written yet.

    Args:
        name: the stem that its module, test and chapter share.
        family: the folder they stand in; a key of `FAMILIES`.
        title: as the chapter's heading has it.
        idea: what it does, in one sentence.
        year: of the first publication of the idea.
        people: who published it, and who added what later.
        ancestors: names of the rows that it grew from, none of them younger.
        requires: names of the rows to read before it; what those require is not repeated.
        source: BibTeX key of the first publication.
        module: dotted path of its module, or "".
        cls: name of its class, optimizer or function in the module, or "".
        trained_by: "gradient", "rule" (its own learning rule) or "none".
        parameters: how many numbers it learns.
        train_cost: time and memory of training.
        use_cost: time and memory of use.
        short: a shorter title for pictures, where `title` is long.
    """

    name: str
    family: str
    title: str
    _: KW_ONLY
    idea: str
    year: int
    people: str
    ancestors: tuple[str, ...]
    source: str
    requires: tuple[str, ...] = ()
    module: str = ""
    cls: str = ""
    trained_by: str = "none"
    parameters: str = ""
    train_cost: str = ""
    use_cost: str = ""
    short: str = ""

    @property
    def label(self) -> str:
        """The title as a picture has room for it."""
        return self.short or self.title


FAMILIES: dict[str, tuple[str, str]] = {
    "foundations": ("Foundations", "What every network is made of, and how it learns."),
    "vision": ("Vision", "Networks that know a picture is a grid."),
    "sequence": (
        "Sequences",
        "Networks that read one step at a time and carry a state.",
    ),
    "attention": (
        "Attention",
        "Networks that look up what they need, wherever it stands.",
    ),
    "language": ("Language models", "The parts of a large language model, one by one."),
    "generative": (
        "Generative models",
        "Networks that draw new examples from what they saw.",
    ),
    "energy": (
        "Energy models",
        "Networks that give a low energy to what is plausible.",
    ),
    "representation": (
        "Representation",
        "Networks that learn what is alike, with few labels.",
    ),
    "graph": (
        "Graphs",
        "Networks whose input is a set of nodes and the edges between them.",
    ),
    "memory": ("Memory", "Networks with a store to write to and to read from."),
    "dynamics": ("Dynamics", "Networks that are systems evolving in time."),
    "approximation": (
        "Approximation",
        "Other ways to build a function out of simple ones.",
    ),
    "probabilistic": ("Uncertainty", "Networks that say how sure they are."),
    "reinforcement": (
        "Reinforcement",
        "Networks that learn from the outcome of what they did.",
    ),
    "kernels": ("Kernels", "How the same mathematics is made fast on a GPU."),
}

# fmt: off
ARCHITECTURES: tuple[Architecture, ...] = (
    # ------------------------------------------------------------------ Part I: foundations
    Architecture(
        "perceptron", "foundations", "Perceptron",
        idea="A weighted vote against a threshold, corrected by one example at every mistake.",
        year=1958, people="Rosenblatt; bound: Novikoff 1962", ancestors=(),
        source="rosenblatt1958perceptron",
        module="nnlib.foundations.perceptron", cls="Perceptron", trained_by="rule",
        parameters="d + 1",
        train_cost="O(d) an example; at most (R/γ)² updates on separable data",
        use_cost="O(d) time, O(d) memory",
    ),
    Architecture(
        "mlp", "foundations", "Multi-layer perceptron",
        idea="Affine maps and nonlinearities in turn: enough units fit any continuous function.",
        year=1986, people="Rumelhart, Hinton and Williams",
        ancestors=("perceptron", "backpropagation", "optimizers"), source="rumelhart1986learning",
        short="MLP",
        module="nnlib.foundations.mlp", cls="MLP", trained_by="gradient",
        parameters="Σₗ (nₗ₋₁ + 1) nₗ",
        train_cost="about 6 FLOPs a weight and example; keeps every hidden layer",
        use_cost="2 FLOPs a weight and example; keeps the widest layer",
        requires=("perceptron",),
    ),
    Architecture(
        "activations", "foundations", "Activation functions",
        idea="The nonlinearity of a layer, whose slope decides how far a gradient reaches.",
        year=2010,
        people="ReLU: Fukushima 1969, Nair and Hinton 2010; GELU: Hendrycks and Gimpel 2016",
        ancestors=("mlp",), source="nair2010rectified", short="Activations",
        module="nnlib.foundations.activations", cls="gelu",
        parameters="none",
        train_cost="O(n) time; keeps the n inputs for the backward pass",
        use_cost="O(n) time, in place",
        requires=("mlp",),
    ),
    Architecture(
        "backpropagation", "foundations", "Backpropagation",
        idea="All derivatives of a loss in one backward pass that reuses what the forward pass "
        "stored.",
        year=1986, people="Rumelhart, Hinton and Williams; reverse mode: Linnainmaa 1970",
        ancestors=("perceptron", "optimizers"), source="rumelhart1986learning",
        module="nnlib.foundations.backpropagation", cls="backpropagate",
        parameters="none",
        train_cost="twice the forward pass; keeps every layer, or √L of L by recomputing",
        use_cost="not needed",
        requires=("mlp",),
    ),
    Architecture(
        "optimizers", "foundations", "Optimizers",
        idea="Rules that turn a gradient into a step: remember the way, and scale each coordinate.",
        year=1951, people="Robbins and Monro; momentum: Polyak 1964; Adam: Kingma and Ba 2014",
        ancestors=(), source="robbins1951stochastic",
        module="nnlib.foundations.optimizers", cls="AdamW",
        parameters="none; state of 0 (SGD), 1 (momentum) or 2 (Adam) numbers a weight",
        train_cost="O(n) a step for n weights",
        use_cost="not needed",
        requires=("backpropagation",),
    ),
    Architecture(
        "regularization", "foundations", "Regularization and normalization",
        idea="Ways to keep a network from memorising its training set, and its values on one "
        "scale.",
        year=1970,
        people="Hoerl and Kennard; dropout: Srivastava et al. 2014; BatchNorm: Ioffe and Szegedy "
        "2015; RMSNorm: Zhang and Sennrich 2019", ancestors=(), source="hoerl1970ridge",
        short="Regularization",
        module="nnlib.foundations.regularization", cls="Dropout",
        parameters="d (RMSNorm), 2d (LayerNorm, BatchNorm), none (dropout, penalties)",
        train_cost="O(d) an example",
        use_cost="O(d) an example; BatchNorm folds into the layer before it",
        requires=("optimizers",),
    ),
    # ------------------------------------------------------------------ Part II: vision
    Architecture(
        "cnn", "vision", "Convolutional network",
        idea="One small filter looks everywhere, so a shifted picture gives shifted features.",
        year=1989, people="LeCun et al.; AlexNet: Krizhevsky et al. 2012",
        ancestors=("mlp", "backpropagation"), source="lecun1989backpropagation", short="CNN",
        module="nnlib.vision.cnn", cls="SimpleCNN", trained_by="gradient",
        parameters="(k² c + 1) o a convolution from c to o channels, whatever the picture's size",
        train_cost="about 6k² c o FLOPs a place; keeps every map",
        use_cost="2k² c o FLOPs a place, all places side by side",
        requires=("backpropagation",),
    ),
    Architecture(
        "resnet", "vision", "Residual network",
        idea="Each block adds a correction to its input, so depth stops hurting.",
        year=2015, people="He et al.", ancestors=("cnn", "regularization"), source="he2016deep",
        short="ResNet",
        module="nnlib.vision.resnet", cls="ResNet", trained_by="gradient",
        parameters="18c² for a basic block of c channels, 17c² for a bottleneck of 4c",
        train_cost="three times the FLOPs of use; keeps every block's input and inner values",
        use_cost="2k²cdYX FLOPs for a k × k convolution from c to d channels with Y × X answers",
        requires=("cnn", "regularization"),
    ),
    Architecture(
        "unet", "vision", "U-Net",
        idea="Down to see what, up to say where, with the fine detail handed across.",
        year=2015, people="Ronneberger, Fischer and Brox", ancestors=("cnn", "autoencoder"),
        source="ronneberger2015unet",
        module="nnlib.vision.unet", cls="UNet", trained_by="gradient",
        parameters="31 million for c = 64 channels at the top and 5 levels; grows with c²",
        train_cost="three times the FLOPs of use; keeps every map, half of it on the first level",
        use_cost="FLOPs grow with the pixels and c²; each level about the same, the lowest a third",
        requires=("resnet", "autoencoder"),
    ),
    Architecture(
        "vit", "vision", "Vision Transformer",
        idea="A picture read as a sequence of patches.",
        year=2020, people="Dosovitskiy et al.", ancestors=("transformer", "bert", "cnn"),
        source="dosovitskiy2020image", short="ViT",
        module="nnlib.vision.vit", cls="ViT", trained_by="gradient",
        parameters="12e² + 13e a layer of width e; (P² C + 1) e for the patches, e a position",
        train_cost="three times the FLOPs of use; keeps what every layer computed for every token",
        use_cost="24 n e² + 4 n² e FLOPs a layer for n patches; Swin: linear in n",
        requires=("cnn", "transformer"),
    ),
    Architecture(
        "capsule", "vision", "Capsule network",
        idea="Groups of units vote on pose, and agreement decides where the signal goes.",
        year=2017, people="Sabour, Frosst and Hinton", ancestors=("cnn",),
        source="sabour2017dynamic", short="Capsules",
        module="nnlib.vision.capsule", cls="CapsuleNetwork", trained_by="gradient",
        parameters="I J p d for I capsules of p numbers that vote for J of d, beside convolutions",
        train_cost="about 6 I J d (p + 2r − 1) FLOPs an image for r iterations; keeps I J d votes "
        "and each iteration",
        use_cost="2 I J d (p + 2r − 1) FLOPs an image; iterations wait for one another",
        requires=("cnn",),
    ),
    # ------------------------------------------------------------------ Part III: sequences
    Architecture(
        "rnn", "sequence", "Recurrent network",
        idea="The same step again and again, with a state that carries the past.",
        year=1990, people="Elman; fed-back answers: Jordan 1986",
        ancestors=("mlp", "backpropagation"), source="elman1990finding", short="RNN",
        module="nnlib.sequence.rnn", cls="RNN", trained_by="gradient",
        parameters="h (d + h + 2) a layer, whatever the length; one bias would do with h less",
        train_cost="6h (h + d) FLOPs a step and layer, one step after the other; keeps T h states",
        use_cost="2h (h + d) FLOPs a step; keeps h numbers",
        requires=("backpropagation",),
    ),
    Architecture(
        "lstm", "sequence", "LSTM",
        idea="A cell that is added to rather than overwritten, behind gates that open and close.",
        year=1997, people="Hochreiter and Schmidhuber; forget gate: Gers et al. 1999",
        ancestors=("rnn",), source="hochreiter1997long",
        module="nnlib.sequence.lstm", cls="LSTM", trained_by="gradient",
        parameters="4h (d + h + 1); torch's two biases: 4h (d + h + 2)",
        train_cost="about 24h (d + h) FLOPs a step, one step after the other; keeps every step",
        use_cost="8h (d + h) FLOPs a step, however long the past; keeps 2h numbers",
        requires=("rnn",),
    ),
    Architecture(
        "gru", "sequence", "GRU",
        idea="Two gates that mix the old state with a new candidate.",
        year=2014, people="Cho et al.; minGRU: Feng et al. 2024", ancestors=("lstm",),
        source="cho2014learning",
        module="nnlib.sequence.gru", cls="GRU", trained_by="gradient",
        parameters="3h (d + h + 1); torch's two biases: 3h (d + h + 2)",
        train_cost="about 18h (d + h) FLOPs a step, one step after the other; keeps every step",
        use_cost="6h (d + h) FLOPs a step, however long the past; keeps h numbers",
        requires=("lstm",),
    ),
    Architecture(
        "bidirectional", "sequence", "Bidirectional recurrent network",
        idea="One reader from each end, so every step sees both sides.",
        year=1997, people="Schuster and Paliwal", ancestors=("rnn",),
        source="schuster1997bidirectional", short="Bidirectional RNN",
        module="nnlib.sequence.bidirectional", cls="GapFiller", trained_by="gradient",
        parameters="2 g h (d + h + 2) for g blocks of gates: 1, 3 (GRU) or 4 (LSTM)",
        train_cost="two walks, O(T g h (d + h)) each, side by side; keeps the states of both",
        use_cost="the same; the first answer comes after the last input",
        requires=("lstm",),
    ),
    Architecture(
        "seq2seq", "sequence", "Sequence to sequence",
        idea="One network reads a sequence into a vector, another writes a sequence out of it.",
        year=2014, people="Sutskever, Vinyals and Le; Cho et al.", ancestors=("lstm", "gru"),
        source="sutskever2014sequence", short="Seq2seq",
        module="nnlib.sequence.seq2seq", cls="Seq2Seq", trained_by="gradient",
        parameters="(V + v) e + 3h (e + h + 2) + 3h (e + 2h + 2) + 2h² + h + v (h + 1), with c "
        "at every step",
        train_cost="O((m + n) h²) for m tokens read and n written, O(nmh) more with attention",
        use_cost="O(h²) a token written, O(w h²) in w beams; keeps h numbers, mh with attention",
        requires=("gru",),
    ),
    Architecture(
        "echo_state", "sequence", "Echo state network",
        idea="A fixed random reservoir echoes the input; only the read-out is learned.",
        year=2001, people="Jaeger; with spiking neurons: Maass, Natschläger and Markram 2002",
        ancestors=("rnn",), source="jaeger2001echo", short="Echo state",
        module="nnlib.sequence.echo_state", cls="EchoStateNetwork", trained_by="rule",
        parameters="k (h + d + 1) learned; h² + hd + h drawn and fixed",
        train_cost="O(T h²) to read T steps, O(T h² + h³) for one regression; keeps T h states",
        use_cost="O(h² + hd) a step; keeps h numbers",
        requires=("rnn",),
    ),
    Architecture(
        "wavenet", "sequence", "WaveNet",
        idea="Causal convolutions with doubling gaps hear a long past in few layers.",
        year=2016, people="van den Oord et al.", ancestors=("cnn", "resnet", "lstm"),
        source="oord2016wavenet",
        module="nnlib.sequence.wavenet", cls="WaveNet", trained_by="gradient",
        parameters="L (2c² K + 2c + cs + s) + (L − 1)(c² + c) + vcK + c + s² + s + sv + v "
        "for L layers of c channels and K taps, s skip channels, v levels",
        train_cost="about 3 F FLOPs a sample, F = L (4Kc² + 2cs) + 2(L − 1) c² + 2s² + 2sv, all "
        "samples at once",
        use_cost="F FLOPs a sample, one after the other; keeps (K − 1) c Σd numbers",
        requires=("resnet",),
    ),
    Architecture(
        "xlstm", "sequence", "xLSTM",
        idea="Exponential gates and a matrix memory bring the LSTM to the scale of transformers.",
        year=2024, people="Beck et al.", ancestors=("lstm", "transformer"), source="beck2024xlstm",
        module="nnlib.sequence.xlstm", cls="xLSTM", trained_by="gradient",
        parameters="3eh + h (3s + 6n + k + 3) + 2n + e a matrix block, h = 2e; 2we for the tokens",
        train_cost="O(T (eh + h²/n)) a block of n memories, in chunks; an sLSTM step after step",
        use_cost="O(eh + h²/n) a token and block, however long the past; keeps h²/n + hk + n",
        requires=("lstm", "transformer"),
    ),
    Architecture(
        "rwkv", "sequence", "RWKV",
        idea="Attention with a decaying weight, written as a recurrence of constant size.",
        year=2023, people="Peng et al.", ancestors=("rnn", "transformer"), source="peng2023rwkv",
        module="nnlib.sequence.rwkv", cls="RWKV", trained_by="gradient",
        parameters="2vd + 13Ld² + (11L + 4)d",
        train_cost="O(T (Ld² + vd)) for T tokens, all of them at once, except a scan of O(TLd)",
        use_cost="O(Ld² + vd) a token; keeps 5Ld numbers",
        requires=("transformer",),
    ),
    Architecture(
        "s4", "sequence", "Structured state space model",
        idea="A linear system, stepped as a recurrence or applied as one long convolution.",
        year=2021, people="Gu, Goel and Ré; HiPPO: Gu et al. 2020; S4D: Gu et al. 2022",
        ancestors=("rnn", "cnn"), source="gu2021efficiently", short="S4",
        module="nnlib.sequence.s4", cls="S4D", trained_by="gradient",
        parameters="2d (N + 1) in the diagonal form, N numbers of state a feature",
        train_cost="O(d T log T + d N T) for T steps, all at once; keeps every step",
        use_cost="O(d N) a step, however long the past; keeps d N numbers",
        requires=("rnn", "cnn"),
    ),
    Architecture(
        "mamba", "sequence", "Mamba",
        idea="A state space model whose input decides what to keep.",
        year=2023, people="Gu and Dao; Mamba-2: Dao and Gu 2024",
        ancestors=("s4", "lstm", "parallel_scan"), source="gu2023mamba",
        module="nnlib.sequence.mamba", cls="Mamba", trained_by="gradient",
        parameters="3de + d (2r + 3n + k + 3) + e a layer, d = 2e channels; ve for the tokens",
        train_cost="O(T (de + dn)) a layer, all steps at once; keeps T d n numbers, or dn a chunk",
        use_cost="O(de + dn) a token and layer, however long the past; keeps d (n + k − 1) numbers",
        requires=("s4", "parallel_scan"),
    ),
    # ------------------------------------------------------------------ Part IV: attention
    Architecture(
        "attention", "attention", "Attention",
        idea="A weighted mean of what was read, with weights that depend on the question.",
        year=2014, people="Bahdanau, Cho and Bengio; Luong et al. 2015",
        ancestors=("seq2seq", "bidirectional"), source="bahdanau2014neural",
        module="nnlib.attention.attention", cls="AdditiveAttention", trained_by="gradient",
        parameters="a (d_q + d_k + 1) additive; d_q d_k general; none for dot products",
        train_cost="O(nm (a + d)) for n queries and m keys; keeps the n × m weights",
        use_cost="O(m (a + d)) a query; keeps the m keys and values",
        requires=("seq2seq",),
    ),
    Architecture(
        "transformer", "attention", "Transformer",
        idea="Every position asks every other, many times over, with no recurrence at all.",
        year=2017,
        people="Vaswani et al.; rotary positions: Su et al. 2021; groups: Ainslie et al. 2023",
        ancestors=("attention", "resnet", "regularization"), source="vaswani2017attention",
        module="nnlib.attention.transformer", cls="TransformerEncoder", trained_by="gradient",
        parameters="12d² + 13d a layer, 16d² + 19d with cross-attention, at f = 4d",
        train_cost="24nd² + 4n²d FLOPs a layer forwards; every position at once",
        use_cost="24d² + 4nd FLOPs a layer and new token, with 2nd numbers cached",
        requires=("attention", "regularization"),
    ),
    Architecture(
        "bert", "attention", "BERT",
        idea="A transformer encoder that learns by filling in blanked words from both sides.",
        year=2018, people="Devlin et al.", ancestors=("transformer",), source="devlin2018bert",
        module="nnlib.attention.bert", cls="BERT", trained_by="gradient",
        parameters="(V + T + S) d + 2d + L (12d² + 13d) + d² + d; Base has 109 million",
        train_cost="about 6 FLOPs a weight and token, for an answer at 15 % of the tokens",
        use_cost="24nd² + 4n²d FLOPs a layer for n tokens; nothing to cache",
        requires=("transformer",),
    ),
    Architecture(
        "gpt", "attention", "GPT",
        idea="A transformer decoder that learns by guessing the next token.",
        year=2018, people="Radford et al.; GPT-3: Brown et al. 2020", ancestors=("transformer",),
        source="radford2018improving",
        module="nnlib.attention.gpt", cls="GPT", trained_by="gradient",
        parameters="(v + T) d + L (12d² + 13d) + 2d; GPT-2 has 124 million to 1.6 billion",
        train_cost="about 6 FLOPs a weight and token; keeps every layer of every position",
        use_cost="with a cache 2 FLOPs a weight and token; keeps 2Ld numbers a token",
        requires=("transformer",),
    ),
    # ------------------------------------------------------------------ Part V: language models
    Architecture(
        "tokenization", "language", "Tokenization",
        idea="Text cut into frequent pieces, learned by merging pairs.",
        year=2016, people="Sennrich, Haddow and Birch", ancestors=("seq2seq",),
        source="sennrich2016neural",
        module="nnlib.language.tokenization", cls="BPETokenizer",
        parameters="v - 256 merges, found by counting; the table of vectors, v d, belongs to the "
        "model",
        train_cost="one pass over the distinct pieces; then, for each merge, the pieces it is in",
        use_cost="O(n log n) for a piece of n bytes; known pieces are looked up",
        requires=("gpt",),
    ),
    Architecture(
        "llm", "language", "Large language model",
        idea="The decoder block that most open models share: RMSNorm, rotary positions, SwiGLU.",
        year=2023, people="LLaMA: Touvron et al.",
        ancestors=("gpt", "regularization", "activations"), source="touvron2023llama", short="LLM",
        module="nnlib.language.llm", cls="LLM", trained_by="gradient",
        parameters="2vd + L (2d d_h (h + g) + 3df + 2d) + d; open models have 0.6 to 405 billion",
        train_cost="about 6 FLOPs a weight and token; 16 bytes a weight, and activations",
        use_cost="with a cache 2 FLOPs a weight and token; keeps 2Lg d_h numbers a token",
        requires=("tokenization",),
    ),
    Architecture(
        "decoding", "language", "Decoding",
        idea="How one token is picked from a distribution, and how a draft makes that cheaper.",
        year=2019, people="Holtzman et al.; speculative: Leviathan et al. 2022",
        ancestors=("gpt", "seq2seq"), source="holtzman2019curious",
        module="nnlib.language.decoding", cls="repetition_penalty",
        parameters="none; a draft model has its own",
        train_cost="nothing is trained",
        use_cost="one pass of the model a token; B rows for B beams; with a draft, one pass for "
        "(1 - α^(γ+1)) / (1 - α) tokens",
        requires=("gpt",),
    ),
    Architecture(
        "inference", "language", "Inference",
        idea="Keep the keys and values of the past, in pages, and serve many readers at once.",
        year=2023, people="Kwon et al.; continuous batching: Yu et al. 2022",
        ancestors=("gpt", "llm", "flash_attention", "roofline"), source="kwon2023efficient",
        module="nnlib.language.inference", cls="split_attention",
        parameters="none of its own; the cache holds 2Lg d_h numbers a token",
        train_cost="nothing is trained",
        use_cost="a step: 2N FLOPs a token; all weights once and each text's cache in bytes",
        requires=("llm", "flash_attention"),
    ),
    Architecture(
        "scaling_laws", "language", "Scaling laws",
        idea="Loss falls as a power of parameters, data and compute.",
        year=2020, people="Kaplan et al.; Hoffmann et al. 2022", ancestors=("gpt",),
        source="kaplan2020scaling",
        module="nnlib.language.scaling_laws", cls="compute_optimal",
        parameters="none of its own; the parametric law has five constants",
        train_cost="a grid of small runs, about 6ND FLOPs each; the fit takes a second",
        use_cost="a closed formula",
        requires=("gpt",),
    ),
    Architecture(
        "alignment", "language", "Alignment",
        idea="People compare answers, and the model moves towards those they prefer.",
        year=2017, people="Christiano et al.; Ouyang et al. 2022", ancestors=("policy_gradient",),
        source="christiano2017deep",
        module="nnlib.language.alignment", cls="dpo_loss", trained_by="gradient",
        parameters="those of the model; PPO holds four models: policy, reference, reward, value",
        train_cost="DPO: 8 FLOPs a weight and token of two answers; PPO and GRPO: the writing of "
        "answers on top, which takes most of the time",
        use_cost="that of the model; best of n writes n answers and scores them",
        requires=("gpt", "policy_gradient"),
    ),
    Architecture(
        "mixture_of_experts", "language", "Mixture of experts",
        idea="A router sends each token to a few of many networks.",
        year=2017, people="Shazeer et al.; idea: Jacobs et al. 1991", ancestors=("mlp", "lstm"),
        source="shazeer2017outrageously", short="Experts",
        module="nnlib.language.mixture_of_experts", cls="MixtureOfExperts", trained_by="gradient",
        parameters="3 m d f of m gated experts and m d of the router; 3 k d f of them for a token",
        train_cost="that of a network k f wide, and a product for the router; all m experts, their "
        "gradients and averages in memory",
        use_cost="the same for each token; a batch soon reads every expert's weights",
        requires=("transformer",),
    ),
    Architecture(
        "adapters", "language", "Adapters and LoRA",
        idea="Train a few new numbers beside a frozen model.",
        year=2019, people="Houlsby et al.; LoRA: Hu et al. 2021", ancestors=("bert",),
        source="houlsby2019parameter", short="LoRA, adapters",
        module="nnlib.language.adapters", cls="LoRALinear", trained_by="gradient",
        parameters="r (d_in + d_out) for each adapted matrix; 0.01 to 1 percent of a large model",
        train_cost="16 bytes a trained weight, 2 a frozen one, half a byte in four bits; about two "
        "thirds of the FLOPs of full fine-tuning",
        use_cost="none once merged; otherwise 2r (d_in + d_out) FLOPs a matrix and token",
        requires=("transformer", "llm"),
    ),
    Architecture(
        "long_context", "language", "Long context",
        idea="Rotate, stretch or window the positions to read more than was trained on.",
        year=2021, people="RoPE: Su et al.; YaRN: Peng et al. 2023", ancestors=("transformer",),
        source="su2021roformer",
        module="nnlib.language.long_context", cls="ring_attention", trained_by="gradient",
        parameters="none: frequencies and masks are constants",
        train_cost="attention to n tokens: 4 n² h d_h FLOPs a block, shared by P processes",
        use_cost="a cache of 2 g d_h numbers a token and block; with sinks, of a constant size",
        requires=("llm",),
    ),
    Architecture(
        "compression", "language", "Compression",
        idea="Fewer bits, fewer weights, or a small student of a large teacher.",
        year=1989, people="LeCun, Denker and Solla; distillation: Hinton et al. 2015",
        ancestors=("mlp",), source="lecun1989optimal",
        module="nnlib.language.compression", cls="fake_quantize",
        parameters="b + 16/g bits a weight in groups of g; a share of the weights; those of a "
        "student",
        train_cost="none for rounding; GPTQ: one pass over some hundred texts, and o d² for a "
        "layer; distillation: a training",
        use_cost="as many bytes as are kept; fewer operations only where kernels for the format "
        "are",
        requires=("llm",),
    ),
    Architecture(
        "retrieval", "language", "Retrieval",
        idea="Look the passage up first, then answer with it in view.",
        year=2020, people="Lewis et al.", ancestors=("bert", "word2vec"),
        source="lewis2020retrieval",
        module="nnlib.language.retrieval", cls="BiEncoder", trained_by="gradient",
        parameters="BM25: two numbers; a bi-encoder here: v (d + 1), and in use a transformer's",
        train_cost="BM25: one pass to count; a bi-encoder: a batch of b texts and b² products of "
        "their vectors a step",
        use_cost="BM25: the lists of the query's words; vectors: 2nd FLOPs exactly, or a few per "
        "cent of that with an approximate index; then the reader's k passages",
        requires=("bert", "gpt"),
    ),
    # ------------------------------------------------------------------ Part VI: generative models
    Architecture(
        "autoencoder", "generative", "Autoencoder",
        idea="Squeeze the input through a narrow code and rebuild it.",
        year=1986, people="Rumelhart, Hinton and Williams", ancestors=("mlp",),
        source="rumelhart1986internal",
        module="nnlib.generative.autoencoder", cls="Autoencoder", trained_by="gradient",
        parameters="Σₗ (2 nₗ₋₁ nₗ + nₗ₋₁ + nₗ), one of the two products fewer with tied weights",
        train_cost="about 12 FLOPs a weight of the encoder and example; keeps every hidden layer",
        use_cost="2 FLOPs a weight of the encoder for the code, as many to rebuild",
        requires=("backpropagation",),
    ),
    Architecture(
        "vae", "generative", "Variational autoencoder",
        idea="A code that is a distribution, so that new codes can be drawn.",
        year=2013, people="Kingma and Welling", ancestors=("autoencoder",), source="kingma2013auto",
        short="VAE",
        module="nnlib.generative.vae", cls="VAE", trained_by="gradient",
        parameters="(d + 2h + 1) w + 2h for the encoder, (h + d + 1) w + d for the decoder, "
        "with w hidden units",
        train_cost="about 6w (2d + 3h) FLOPs an example; keeps every layer's output",
        use_cost="2w (h + d) FLOPs a drawn example, all numbers at once",
        requires=("autoencoder",),
    ),
    Architecture(
        "gan", "generative", "Generative adversarial network",
        idea="One network forges, another judges, and both improve.",
        year=2014, people="Goodfellow et al.", ancestors=("mlp",),
        source="goodfellow2014generative", short="GAN",
        module="nnlib.generative.gan", cls="Generator", trained_by="gradient",
        parameters="(h + d + 2) w + d for the generator with w hidden units and batch norm, "
        "(d + 2) w + 1 for the discriminator",
        train_cost="about 4 passes of the generator and 8 of the discriminator an example, "
        "R1 another 4; keeps every layer's output",
        use_cost="2w (h + d) FLOPs a drawn example; the discriminator is not needed",
        requires=("optimizers",),
    ),
    Architecture(
        "diffusion", "generative", "Diffusion model",
        idea="Learn to undo a little noise; then undo all of it, from noise to picture.",
        year=2015, people="Sohl-Dickstein et al.; DDPM: Ho et al. 2020",
        ancestors=("energy_based", "vae"), source="sohldickstein2015deep", short="Diffusion",
        module="nnlib.generative.diffusion", cls="DiT", trained_by="gradient",
        parameters="those of its network; one serves all times",
        train_cost="3 passes of the network an example, at one random time",
        use_cost="a pass a step, two with guidance: 1000 for DDPM, 10 to 50 for DDIM and flows",
        requires=("vae",),
    ),
    Architecture(
        "normalizing_flow", "generative", "Normalizing flow",
        idea="An invertible map with a tractable Jacobian turns noise into data and back.",
        year=2014, people="Dinh, Krueger and Bengio", ancestors=("mlp", "autoencoder"),
        source="dinh2014nice", short="Flow",
        module="nnlib.generative.normalizing_flow", cls="RealNVP", trained_by="gradient",
        parameters="one network per layer: it reads what stays, and scales and shifts the rest",
        train_cost="3 passes of every layer's network; the determinant is a sum of d numbers",
        use_cost="one pass to draw, one for an exact likelihood; autoregressive: d in one of them",
        requires=("autoencoder",),
    ),
    # ------------------------------------------------------------------ Part VII: energy models
    Architecture(
        "energy_based", "energy", "Energy-based model",
        idea="Learn a landscape that is low where the data lie.",
        year=2006, people="LeCun et al.; contrastive divergence: Hinton 2002",
        ancestors=("boltzmann",), source="lecun2006tutorial", short="Energy-based",
        module="nnlib.energy.energy_based", cls="EnergyModel", trained_by="gradient",
        parameters="those of any network with one output; log Z is a number of its own",
        train_cost="by chains of k steps: 6 + 2k passes a step; by denoising: about 6, no chain",
        use_cost="an energy: 1 pass; a sample: two or three passes a step, hundreds of steps",
        requires=("boltzmann", "optimizers"),
    ),
    Architecture(
        "boltzmann", "energy", "Boltzmann machine",
        idea="A noisy Hopfield network with hidden units that learns a distribution.",
        year=1985, people="Ackley, Hinton and Sejnowski", ancestors=("hopfield",),
        source="ackley1985learning", short="Boltzmann",
        module="nnlib.energy.boltzmann", cls="BoltzmannMachine", trained_by="rule",
        parameters="$n(n-1)/2$ couplings and $n$ biases, for $n$ visible and hidden units",
        train_cost="all $2^n$ states a step, exactly; else sweeps of $n^2$ products for each chain",
        use_cost="$n^2$ products a sweep, and many sweeps; probabilities: all $2^n$ states",
        requires=("hopfield",),
    ),
    Architecture(
        "rbm", "energy", "Restricted Boltzmann machine",
        idea="Two layers and no edges within them, so that sampling is one matrix product.",
        year=1986, people="Smolensky; contrastive divergence: Hinton 2002",
        ancestors=("boltzmann",), source="smolensky1986information", short="RBM",
        module="nnlib.energy.rbm", cls="RBM", trained_by="gradient",
        parameters="$v h$ weights, and a bias for each of $v + h$ units",
        train_cost="5 products of $2 v h$ FLOPs a chain and step; no gradient through time",
        use_cost="two products a Gibbs step; a free energy is one; $Z$ must be estimated",
        requires=("boltzmann",),
    ),
    # ------------------------------------------------------------------ Part VIII: representation
    Architecture(
        "contrastive", "representation", "Contrastive learning",
        idea="Pull two views of one thing together and push the rest apart.",
        year=1993, people="Siamese: Bromley et al.; SimCLR: Chen et al. 2020", ancestors=("cnn",),
        source="bromley1993signature", short="Contrastive",
        module="nnlib.representation.contrastive", cls="CLIP", trained_by="gradient",
        parameters="those of the encoders and projections, and a temperature: ViT-B/32 151 million",
        train_cost="both encoders on every pair; of b pairs of width d CLIP makes b² d products, "
                   "SimCLR 4 b² d",
        use_cost="an encoder for what is new; d products for each stored vector",
        requires=("cnn",),
    ),
    Architecture(
        "jepa", "representation", "JEPA",
        idea="Predict the meaning of what is hidden, not its pixels.",
        year=2022, people="LeCun; I-JEPA: Assran et al. 2023", ancestors=("contrastive", "vit"),
        source="lecun2022path",
        module="nnlib.representation.jepa", cls="IJEPA", trained_by="gradient",
        parameters="12 L e² for the encoder, as much for its slow copy, and a narrow predictor",
        train_cost="the slow copy reads all n patches, the encoder c < n, the predictor "
                   "c + k for each of m blocks",
        use_cost="one pass of a vision transformer: O(L (n e² + n² e)); no predictor",
        requires=("contrastive", "vit"),
    ),
    Architecture(
        "word2vec", "representation", "Word vectors",
        idea="A word is known by the company it keeps.",
        year=2013, people="Mikolov et al.", ancestors=("mlp",), source="mikolov2013efficient",
        module="nnlib.representation.word2vec", cls="Word2Vec", trained_by="gradient",
        parameters="$2 v d$: an input and an output vector for each of $v$ words",
        train_cost="$6 d (K + 1)$ FLOPs a pair with $K$ negatives; "
                   "about $m + 1$ pairs a word in a window of $m$ to each side",
        use_cost="a row of a table; all cosines of a word are $2 v d$ FLOPs",
        requires=("backpropagation",),
    ),
    Architecture(
        "self_organizing_map", "representation", "Self-organizing map",
        idea="Units on a grid move towards the data and drag their neighbours along.",
        year=1982, people="Kohonen", ancestors=(), source="kohonen1982self", short="SOM",
        module="nnlib.representation.self_organizing_map", cls="SelfOrganizingMap",
        trained_by="rule",
        parameters="$U d$: one point of the data's space for each of $U$ units on the grid",
        train_cost="a pass over $N$ examples: $2 N U d$ FLOPs for the winners; to move the units "
                   "one by one about as much again, in batches $2 U^2 d$",
        use_cost="$2 U d$ FLOPs an example: a search among $U$ units",
    ),
    # ------------------------------------------------------------------ Part IX: graphs
    Architecture(
        "message_passing", "graph", "Message passing",
        idea="Every node updates itself from what its neighbours send.",
        year=2009, people="Scarselli et al.; framework: Gilmer et al. 2017", ancestors=("rnn",),
        source="scarselli2009graph",
        module="nnlib.graph.message_passing", cls="GIN", trained_by="gradient",
        parameters="2d² + 2d a layer of GIN, 2d² + d of GraphSAGE, for graphs of any size",
        train_cost="a layer: O(e d + n d²) for n nodes and e edges; keeps every layer's features",
        use_cost="O(e d + n d²) a layer; with sampling, a node costs the same in any graph",
        requires=("backpropagation",),
    ),
    Architecture(
        "gcn", "graph", "Graph convolutional network",
        idea="Average the neighbours, then apply one affine map.",
        year=2016, people="Kipf and Welling", ancestors=("message_passing", "cnn"),
        source="kipf2016semi", short="GCN",
        module="nnlib.graph.gcn", cls="GCN", trained_by="gradient",
        parameters="d·h + h a layer, whatever the size of the graph",
        train_cost="O(E·h + n·d·h) a layer, for all nodes at once",
        use_cost="as one forward pass; new nodes need their edges",
        requires=("message_passing",),
    ),
    Architecture(
        "graph_attention", "graph", "Graph attention network",
        idea="Weigh each neighbour by how much it matters here.",
        year=2017, people="Veličković et al.; GATv2: Brody et al. 2021",
        ancestors=("gcn", "attention"), source="velickovic2017graph", short="GAT",
        module="nnlib.graph.graph_attention", cls="GAT", trained_by="gradient",
        parameters="f h o + 2 h o for h heads of o features; GATv2: 2 f h o + h o",
        train_cost="a layer: 2 n f h o + 2 e h o FLOPs forwards, three times that with the way "
        "back; e h weights kept",
        use_cost="the same forwards; a graph transformer: n² in the place of e",
        requires=("gcn", "attention"),
    ),
    # ------------------------------------------------------------------ Part X: memory
    Architecture(
        "hopfield", "memory", "Hopfield network",
        idea="Stored patterns are valleys; a broken pattern rolls into the nearest.",
        year=1982, people="Hopfield; modern form: Ramsauer et al. 2020", ancestors=(),
        source="hopfield1982neural", short="Hopfield",
        module="nnlib.memory.hopfield", cls="HopfieldNetwork", trained_by="rule",
        parameters="N² symmetric weights, set by a formula; the modern form keeps its P patterns",
        train_cost="P N² operations by Hebb's rule, one pass; P² N + P N² for the pseudo-inverse",
        use_cost="N² operations a sweep of all units; P N an update of the modern form",
        requires=("perceptron",),
    ),
    Architecture(
        "neural_turing_machine", "memory", "Neural Turing machine",
        idea="A network with a tape that it reads and writes by soft addresses.",
        year=2014, people="Graves, Wayne and Danihelka", ancestors=("lstm", "attention"),
        source="graves2014neural", short="Turing machine",
        module="nnlib.memory.neural_turing_machine", cls="NeuralTuringMachine",
        trained_by="gradient",
        parameters="those of a controller and of one map to its heads; none a slot",
        train_cost="O(T N W): back through every step, with a memory kept for each",
        use_cost="O(N W) a step and head; the DNC's links O(N²)",
        requires=("attention",),
    ),
    # ------------------------------------------------------------------ Part XI: dynamics
    Architecture(
        "neural_ode", "dynamics", "Neural ODE",
        idea="Layers so thin that the network becomes a differential equation.",
        year=2018, people="Chen et al.", ancestors=("resnet", "normalizing_flow"),
        source="chen2018neural",
        module="nnlib.dynamics.neural_ode", cls="NeuralODE", trained_by="gradient",
        parameters="those of the field: (d + 1) h + h² + h d and biases for two layers of width h",
        train_cost="N evaluations of the field forwards, with what each keeps for the way back; by "
        "the adjoint a second solve, with an evaluation and a backward pass for each slope",
        use_cost="N evaluations of the field: six for each step of dopri5, and as many steps as "
        "the tolerance asks for",
        requires=("resnet",),
    ),
    Architecture(
        "liquid", "dynamics", "Liquid network",
        idea="Neurons whose time constants depend on what they see.",
        year=2020, people="Hasani et al.", ancestors=("neural_ode", "rnn"),
        source="hasani2020liquid", short="Liquid",
        module="nnlib.dynamics.liquid", cls="LTC", trained_by="gradient",
        parameters="4 n (n + d) + 3 n + 2 (d + m) for n neurons, d inputs and m outputs",
        train_cost="O(T n (d + L n)): back through L steps of the solver between two inputs",
        use_cost="O(n (d + L n)) an input and n numbers of state; CfC: one pass, no solver",
        requires=("neural_ode", "rnn"),
    ),
    Architecture(
        "spiking", "dynamics", "Spiking network",
        idea="Neurons leak, fire and fall silent; time carries the message.",
        year=1997, people="Maass; integrate and fire: Lapicque 1907", ancestors=("perceptron",),
        source="maass1997networks", short="Spiking",
        module="nnlib.dynamics.spiking", cls="SpikingNetwork", trained_by="gradient",
        parameters="those of the affine maps between its layers; a neuron adds none, or one leak",
        train_cost="T times a dense network's, step by step; keeps T membranes for each neuron",
        use_cost="an addition for each spike and synapse on event-driven hardware; else T dense "
        "products",
        requires=("rnn",),
    ),
    Architecture(
        "neural_cellular_automata", "dynamics", "Neural cellular automaton",
        idea="One local rule, learned, grows a picture from a cell.",
        year=2020, people="Mordvintsev et al.", ancestors=("cnn", "rnn"),
        source="mordvintsev2020growing", short="Cellular automaton",
        module="nnlib.dynamics.neural_cellular_automata", cls="NeuralCellularAutomaton",
        trained_by="gradient",
        parameters="4 c h + h for c channels and h hidden units, whatever the size of the grid",
        train_cost="24 c h FLOPs a cell and step, 64 to 96 steps a rollout; keeps all of them",
        use_cost="8 c h FLOPs a cell and step; keeps c numbers a cell",
        requires=("cnn", "rnn"),
    ),
    # ------------------------------------------------------------------ Part XII: approximation
    Architecture(
        "rbf_network", "approximation", "Radial basis function network",
        idea="A sum of bumps, each answering near its own centre.",
        year=1988, people="Broomhead and Lowe", ancestors=("mlp",),
        source="broomhead1988multivariable", short="RBF",
        module="nnlib.approximation.rbf_network", cls="RBFNetwork", trained_by="rule",
        parameters="o (K + 1) solved for; K d for the centres, K for the widths",
        train_cost="k-means: O(N K d) a round; weights: O(N K²), once; keeps N K numbers",
        use_cost="O(K (d + o)) a point",
        requires=("mlp",),
    ),
    Architecture(
        "kan", "approximation", "Kolmogorov–Arnold network",
        idea="Learned curves on the edges, plain sums at the nodes.",
        year=2024, people="Liu et al.; theorem: Kolmogorov 1957", ancestors=("mlp",),
        source="liu2024kan", short="KAN",
        module="nnlib.approximation.kan", cls="KAN", trained_by="gradient",
        parameters="$G + k + 2$ an edge, for a grid of $G$ intervals and splines of order $k$",
        train_cost="per example and edge 2 (G + k + 1) FLOPs of products, thrice; often by L-BFGS",
        use_cost="per example and edge 2 (G + k + 1) FLOPs, where a perceptron has 2",
        requires=("backpropagation",),
    ),
    Architecture(
        "hypernetwork", "approximation", "Hypernetwork",
        idea="A network whose output is the weights of another.",
        year=2016, people="Ha, Dai and Le", ancestors=("mlp", "lstm"), source="ha2016hypernetworks",
        module="nnlib.approximation.hypernetwork", cls="HyperNetwork", trained_by="gradient",
        parameters="of the head: its width times the numbers that it writes; fewer in chunks",
        train_cost="for each code a pass through both networks, forwards and back",
        use_cost="one pass of the generator a code, then the main network alone",
        requires=("lstm",),
    ),
    # ------------------------------------------------------------------ Part XIII: uncertainty
    Architecture(
        "bayesian", "probabilistic", "Bayesian neural network",
        idea="Not one set of weights but a distribution over them.",
        year=1992, people="MacKay; Bayes by backprop: Blundell et al. 2015",
        ancestors=("mlp", "backpropagation"), source="mackay1992practical", short="Bayesian",
        module="nnlib.probabilistic.bayesian", cls="BayesianLinear", trained_by="gradient",
        parameters="a mean and a standard deviation for each weight: $2 (d + 1) k$ a layer",
        train_cost="two matrix products a layer where a plain one has one, $8dk$ FLOPs forwards",
        use_cost="$S$ passes, one for each set of weights that is drawn; 10 to 100",
        requires=("regularization",),
    ),
    Architecture(
        "mixture_density", "probabilistic", "Mixture density network",
        idea="An answer with several peaks, where several answers are right.",
        year=1994, people="Bishop", ancestors=("mlp",), source="bishop1994mixture",
        short="Mixture density",
        module="nnlib.probabilistic.mixture_density", cls="MixtureDensityNetwork",
        trained_by="gradient",
        parameters="those of its network, whose last layer gives K (1 + 2d) numbers: weights, "
        "means and spreads of K components over d targets",
        train_cost="a pass of its network and back, and K densities a target",
        use_cost="one pass; then as many samples as one likes, or the modes in a few cheap steps",
        requires=("backpropagation",),
    ),
    # ------------------------------------------------------------------ Part XIV: reinforcement
    Architecture(
        "dqn", "reinforcement", "Deep Q-network",
        idea="Learn what each action is worth, from a memory of what happened.",
        year=2013, people="Mnih et al.", ancestors=("cnn",), source="mnih2013playing", short="DQN",
        module="nnlib.reinforcement.dqn", cls="DQN", trained_by="gradient",
        parameters="those of its network; 1.7 million for 18 actions from four pictures",
        train_cost="an update: two passes forward and one back a remembered step",
        use_cost="one pass a step gives the values of all actions",
        requires=("cnn", "optimizers"),
    ),
    Architecture(
        "policy_gradient", "reinforcement", "Policy gradient",
        idea="Make the actions that went well more likely.",
        year=1992, people="Williams; PPO: Schulman et al. 2017", ancestors=("mlp",),
        source="williams1992simple",
        module="nnlib.reinforcement.policy_gradient", cls="ActorCritic", trained_by="gradient",
        parameters="those of an actor and of a critic; two networks of 64 tanh units: about 9000",
        train_cost="a pass of both networks a step of experience; PPO: K epochs over the batch",
        use_cost="one pass of the actor an action; no critic",
        requires=("optimizers",),
    ),
    # ------------------------------------------------------------------ Part XV: kernels
    Architecture(
        "roofline", "kernels", "Roofline",
        idea="An operation is held up by its arithmetic or by its bytes; know which.",
        year=2009, people="Williams, Waterman and Patterson", ancestors=(),
        source="williams2009roofline",
        module="nnlib.kernels.roofline", cls="attainable",
        parameters="three numbers a machine: FLOPs and bytes a second, seconds a launch",
        train_cost="not needed",
        use_cost="two numbers an operation: its FLOPs and its bytes",
    ),
    Architecture(
        "flash_attention", "kernels", "FlashAttention",
        idea="Exact attention in tiles that never leave the chip.",
        year=2022,
        people="Dao et al.; online softmax: Milakov and Gimelshein 2018; FlashAttention-2: Dao "
        "2023", ancestors=("transformer", "roofline"), source="dao2022flashattention",
        module="nnlib.kernels.attention", cls="attention",
        parameters="none",
        train_cost="14n²d FLOPs a head with the backward pass; keeps one number a query",
        use_cost="4n²d FLOPs a head, half of it when causal; holds no table of n² scores",
        requires=("transformer", "roofline"),
    ),
    Architecture(
        "parallel_scan", "kernels", "Parallel scan",
        idea="A recurrence in logarithmic depth, because its steps can be regrouped.",
        year=1990, people="Blelloch; before him Kogge and Stone 1973, Ladner and Fischer 1980, "
        "Hillis and Steele 1986", ancestors=(), source="blelloch1990prefix",
        module="nnlib.kernels.linear_scan", cls="linear_scan",
        parameters="none",
        train_cost="the gradient is the same scan, from the end",
        use_cost="O(n) operators in O(log n) rounds; moves 3n numbers, 5n in chunks",
        requires=("rnn", "roofline"),
    ),
    Architecture(
        "quantized_matmul", "kernels", "Quantized matrix product",
        idea="Multiply in few bits, with a scale for every block.",
        year=2022, people="Dettmers et al.; NF4: Dettmers et al. 2023",
        ancestors=("compression", "roofline"),
        source="dettmers2022llmint8", short="Quantized",
        module="nnlib.kernels.int8_matmul", cls="int8_matmul",
        parameters="a byte a weight and a scale a row; in NF4 4.5 bits a weight, doubled 4.13",
        train_cost="none: made from trained weights; the gradient of the input is as costly again",
        use_cost="the FLOPs of the product, and half or a quarter of the bytes of its weights",
        requires=("compression", "roofline"),
    ),
)
# fmt: on

_BY_NAME = {row.name: row for row in ARCHITECTURES}


def get(name: str) -> Architecture:
    """Return the row of that name.

    Args:
        name: such as `"perceptron"`.

    Raises:
        TypeError: `name` is no string.
        ValueError: no row has that name; the message lists names near it.

    Example:
        >>> get("perceptron").year
        1958
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be a string such as 'perceptron'")
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.5)
        hint = (
            " or ".join(repr(other) for other in near)
            or "a name of nnlib.catalog.ARCHITECTURES"
        )
        raise ValueError(f"name={name!r} is not in the catalogue: it takes {hint}")
    return _BY_NAME[name]


def heirs(name: str) -> tuple[Architecture, ...]:
    """Return the rows that grew from that one, oldest first.

    Raises:
        TypeError: `name` is no string.
        ValueError: no row has that name.
    """
    parent = get(name).name
    grown = [row for row in ARCHITECTURES if parent in row.ancestors]
    return tuple(sorted(grown, key=lambda row: row.year))


def members(family: str) -> tuple[Architecture, ...]:
    """Return the rows of a family, in reading order.

    Raises:
        ValueError: `family` is no key of `FAMILIES`.
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} must be one of {list(FAMILIES)}")
    return tuple(row for row in ARCHITECTURES if row.family == family)


def written() -> tuple[Architecture, ...]:
    """Return the rows whose chapter, module and test exist, in reading order."""
    return tuple(row for row in ARCHITECTURES if row.module)


def load(name: str) -> Any:
    """Import and return the class or function of a written row.

    Raises:
        TypeError: `name` is no string.
        ValueError: no row has that name, or its chapter is not written yet.
    """
    row = get(name)
    if not row.module:
        raise ValueError(
            f"name={name!r} is planned: it has a row in the catalogue, but no module"
        )
    return getattr(importlib.import_module(row.module), row.cls)
