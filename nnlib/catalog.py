"""Every architecture of the book in one flat table; importing it costs nothing.

One row an architecture. The row feeds the chapter's card, the overview page, the family tree and
the contract tests, so adding an architecture needs no registration anywhere else. Classes are named
by string and imported only by `load`.
"""

import difflib
import importlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One row: what an architecture is, where it came from, and a tiny example of it.

    A row without `module` is planned: its chapter is not written yet.

    Args:
        name: the stem that its module, test and chapter share.
        family: the folder they stand in; a key of `FAMILIES`.
        title: as the chapter's heading has it.
        idea: what it does, in one sentence.
        year: of the first publication of the idea.
        people: who published it, and who added what later.
        ancestors: names of the rows that it grew from, none of them younger.
        source: BibTeX key of the first publication.
        module: dotted path of its module, or "".
        cls: name of its class, optimizer or function in the module, or "".
        kwargs: arguments of a tiny example.
        input_shape: shape of a tiny input; () when it takes none.
        trained_by: "gradient", "rule" (its own learning rule) or "none".
        parameters: how many numbers it learns.
        train_cost: time and memory of training.
        use_cost: time and memory of use.
        short: a shorter title for pictures, where `title` is long.
    """

    name: str
    family: str
    title: str
    idea: str
    year: int
    people: str
    ancestors: tuple[str, ...]
    source: str
    module: str = ""
    cls: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict, hash=False)
    input_shape: tuple[int, ...] = ()
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
    "sequence": ("Sequences", "Networks that read one step at a time and carry a state."),
    "attention": ("Attention", "Networks that look up what they need, wherever it stands."),
    "language": ("Language models", "The parts of a large language model, one by one."),
    "generative": ("Generative models", "Networks that draw new examples from what they saw."),
    "energy": ("Energy models", "Networks that give a low energy to what is plausible."),
    "representation": ("Representation", "Networks that learn what is alike, with few labels."),
    "graph": ("Graphs", "Networks whose input is a set of nodes and the edges between them."),
    "memory": ("Memory", "Networks with a store to write to and to read from."),
    "dynamics": ("Dynamics", "Networks that are systems evolving in time."),
    "approximation": ("Approximation", "Other ways to build a function out of simple ones."),
    "probabilistic": ("Uncertainty", "Networks that say how sure they are."),
    "reinforcement": ("Reinforcement", "Networks that learn from the outcome of what they did."),
    "kernels": ("Kernels", "How the same mathematics is made fast on a GPU."),
}

# fmt: off
ARCHITECTURES: tuple[Architecture, ...] = (
    # ------------------------------------------------------------------ Part I: foundations
    Architecture(
        "perceptron", "foundations", "Perceptron",
        "A weighted vote against a threshold, corrected by one example at every mistake.",
        1958, "Rosenblatt; bound: Novikoff 1962", (), "rosenblatt1958perceptron",
        "nnlib.foundations.perceptron", "Perceptron", {"in_features": 4}, (5, 4), "rule",
        parameters="d + 1",
        train_cost="O(d) an example; at most (R/γ)² updates on separable data",
        use_cost="O(d) time, O(d) memory",
    ),
    Architecture(
        "mlp", "foundations", "Multi-layer perceptron",
        "Affine maps with a bend between them, enough of which fit any continuous function.",
        1986, "Rumelhart, Hinton and Williams", ("perceptron", "backpropagation", "optimizers"),
        "rumelhart1986learning",
        "nnlib.foundations.mlp", "MLP", {"sizes": [4, 8, 3]}, (5, 4), "gradient",
        parameters="Σₗ (nₗ₋₁ + 1) nₗ",
        train_cost="about 6 FLOPs a weight and example; keeps every hidden layer",
        use_cost="2 FLOPs a weight and example; keeps the widest layer",
        short="MLP",
    ),
    Architecture(
        "activations", "foundations", "Activation functions",
        "The bend between two affine maps, whose slope decides how far a gradient reaches.",
        2010, "ReLU: Fukushima 1969, Nair and Hinton 2010; GELU: Hendrycks and Gimpel 2016",
        ("mlp",), "nair2010rectified",
        "nnlib.foundations.activations", "gelu", {}, (5, 4), "none",
        parameters="none",
        train_cost="O(n) time; keeps the n inputs for the backward pass",
        use_cost="O(n) time, in place",
        short="Activations",
    ),
    Architecture(
        "backpropagation", "foundations", "Backpropagation",
        "All derivatives of a loss in one backward walk that reuses what the forward walk found.",
        1986, "Rumelhart, Hinton and Williams; reverse mode: Linnainmaa 1970",
        ("perceptron", "optimizers"), "rumelhart1986learning",
        "nnlib.foundations.backpropagation", "backpropagate", {}, (), "none",
        parameters="none",
        train_cost="twice the forward pass; keeps every layer, or √L of L by recomputing",
        use_cost="not needed",
    ),
    Architecture(
        "optimizers", "foundations", "Optimizers",
        "Rules that turn a gradient into a step: remember the way, and scale each coordinate.",
        1951, "Robbins and Monro; momentum: Polyak 1964; Adam: Kingma and Ba 2014",
        (), "robbins1951stochastic",
        "nnlib.foundations.optimizers", "AdamW", {"lr": 0.1}, (), "none",
        parameters="none; state of 0 (SGD), 1 (momentum) or 2 (Adam) numbers a weight",
        train_cost="O(n) a step for n weights",
        use_cost="not needed",
    ),
    Architecture(
        "regularization", "foundations", "Regularization and normalization",
        "Ways to keep a network from learning its training set by heart, and its scales in hand.",
        1970, "Hoerl and Kennard; dropout: Srivastava et al. 2014; BatchNorm: Ioffe and Szegedy "
        "2015; RMSNorm: Zhang and Sennrich 2019", (), "hoerl1970ridge",
        "nnlib.foundations.regularization", "Dropout", {"p": 0.5}, (5, 8), "none",
        parameters="d (RMSNorm), 2d (LayerNorm, BatchNorm), none (dropout, penalties)",
        train_cost="O(d) an example",
        use_cost="O(d) an example; BatchNorm folds into the layer before it",
        short="Regularization",
    ),
    # ------------------------------------------------------------------ Part II: vision
    Architecture("cnn", "vision", "Convolutional network",
        "One small filter looks everywhere, so a shifted picture gives a shifted answer.",
        1989, "LeCun et al.; AlexNet: Krizhevsky et al. 2012", ("mlp", "backpropagation"),
        "lecun1989backpropagation", short="CNN"),
    Architecture("resnet", "vision", "Residual network",
        "Each block adds a correction to its input, so depth stops hurting.",
        2015, "He et al.", ("cnn", "regularization"), "he2016deep", short="ResNet"),
    Architecture("unet", "vision", "U-Net",
        "Down to see what, up to say where, with the fine detail handed across.",
        2015, "Ronneberger, Fischer and Brox", ("cnn", "autoencoder"), "ronneberger2015unet"),
    Architecture("vit", "vision", "Vision Transformer",
        "A picture read as a sequence of patches.",
        2020, "Dosovitskiy et al.", ("transformer", "bert", "cnn"), "dosovitskiy2020image",
        short="ViT"),
    Architecture("capsule", "vision", "Capsule network",
        "Groups of units vote on pose, and agreement decides where the signal goes.",
        2017, "Sabour, Frosst and Hinton", ("cnn",), "sabour2017dynamic", short="Capsules"),
    # ------------------------------------------------------------------ Part III: sequences
    Architecture("rnn", "sequence", "Recurrent network",
        "The same step again and again, with a state that carries the past.",
        1990, "Elman; fed-back answers: Jordan 1986", ("mlp", "backpropagation"),
        "elman1990finding",
        "nnlib.sequence.rnn", "RNN", {"input_size": 3, "hidden_size": 5, "num_layers": 2},
        (2, 7, 3), "gradient",
        parameters="h (d + h + 2) a layer, whatever the length; one bias would do with h less",
        train_cost="6h (h + d) FLOPs a step and layer, one step after the other; keeps T h states",
        use_cost="2h (h + d) FLOPs a step; keeps h numbers",
        short="RNN",
    ),
    Architecture("lstm", "sequence", "LSTM",
        "A cell that is added to rather than overwritten, behind gates that open and close.",
        1997, "Hochreiter and Schmidhuber; forget gate: Gers et al. 2000", ("rnn",),
        "hochreiter1997long",
        "nnlib.sequence.lstm", "LSTM", {"input_size": 3, "hidden_size": 5}, (2, 7, 3), "gradient",
        parameters="4h (d + h + 1); torch's two biases: 4h (d + h + 2)",
        train_cost="about 24h (d + h) FLOPs a step, one step after the other; keeps every step",
        use_cost="8h (d + h) FLOPs a step, however long the past; keeps 2h numbers"),
    Architecture("gru", "sequence", "GRU",
        "Two gates that mix the old state with a new candidate.",
        2014, "Cho et al.; minGRU: Feng et al. 2024", ("lstm",), "cho2014learning",
        "nnlib.sequence.gru", "GRU", {"input_size": 3, "hidden_size": 5}, (2, 7, 3), "gradient",
        parameters="3h (d + h + 1); torch's two biases: 3h (d + h + 2)",
        train_cost="about 18h (d + h) FLOPs a step, one step after the other; keeps every step",
        use_cost="6h (d + h) FLOPs a step, however long the past; keeps h numbers"),
    Architecture("bidirectional", "sequence", "Bidirectional recurrent network",
        "One reader from each end, so every step sees both sides.",
        1997, "Schuster and Paliwal", ("rnn",), "schuster1997bidirectional",
        "nnlib.sequence.bidirectional", "GapFiller",
        {"vocab_size": 11, "embed_dim": 4, "hidden_size": 6}, (3, 8), "gradient",
        parameters="2 g h (d + h + 2) for g blocks of gates: 1, 3 (GRU) or 4 (LSTM)",
        train_cost="two walks, O(T g h (d + h)) each, side by side; keeps the states of both",
        use_cost="the same; the first answer comes after the last input",
        short="Bidirectional RNN"),
    Architecture("seq2seq", "sequence", "Sequence to sequence",
        "One network reads a sequence into a vector, another writes a sequence out of it.",
        2014, "Sutskever, Vinyals and Le; Cho et al.", ("lstm", "gru"), "sutskever2014sequence",
        "nnlib.sequence.seq2seq", "Seq2Seq",
        {"source_size": 7, "target_size": 6, "embed_dim": 4, "hidden_size": 8}, (), "gradient",
        parameters="(V + v) e + 3h (e + h + 2) + 3h (e + 2h + 2) + 2h² + h + v (h + 1), with c "
        "at every step",
        train_cost="O((m + n) h²) for m tokens read and n written, O(nmh) more with attention",
        use_cost="O(h²) a token written, O(w h²) in w beams; keeps h numbers, mh with attention",
        short="Seq2seq"),
    Architecture("echo_state", "sequence", "Echo state network",
        "A fixed random reservoir echoes the input; only the read-out is learned.",
        2001, "Jaeger; with spiking neurons: Maass, Natschläger and Markram 2002", ("rnn",),
        "jaeger2001echo",
        "nnlib.sequence.echo_state", "EchoStateNetwork",
        {"input_size": 3, "reservoir_size": 8}, (), "rule",
        parameters="k (h + d + 1) learned; h² + hd + h drawn and fixed",
        train_cost="O(T h²) to read T steps, O(T h² + h³) for one regression; keeps T h states",
        use_cost="O(h² + hd) a step; keeps h numbers",
        short="Echo state"),
    Architecture("wavenet", "sequence", "WaveNet",
        "Causal convolutions with doubling gaps hear a long past in few layers.",
        2016, "van den Oord et al.", ("cnn", "resnet", "lstm"), "oord2016wavenet"),
    Architecture("xlstm", "sequence", "xLSTM",
        "Exponential gates and a matrix memory bring the LSTM to the scale of transformers.",
        2024, "Beck et al.", ("lstm", "transformer"), "beck2024xlstm"),
    Architecture("rwkv", "sequence", "RWKV",
        "Attention with a decaying weight, written as a recurrence of constant size.",
        2023, "Peng et al.", ("rnn", "transformer"), "peng2023rwkv"),
    Architecture("s4", "sequence", "Structured state space model",
        "A linear system, stepped as a recurrence or applied as one long convolution.",
        2021, "Gu, Goel and Ré", ("rnn", "cnn"), "gu2021efficiently", short="S4"),
    Architecture("mamba", "sequence", "Mamba",
        "A state space model whose input decides what to keep.",
        2023, "Gu and Dao", ("s4", "lstm", "parallel_scan"), "gu2023mamba"),
    # ------------------------------------------------------------------ Part IV: attention
    Architecture("attention", "attention", "Attention",
        "A weighted mean of what was read, with weights that depend on the question.",
        2014, "Bahdanau, Cho and Bengio; Luong et al. 2015", ("seq2seq", "bidirectional"),
        "bahdanau2014neural",
        "nnlib.attention.attention", "AdditiveAttention",
        {"query_dim": 4, "key_dim": 6, "hidden_dim": 8}, (), "gradient",
        parameters="a (d_q + d_k + 1) additive; d_q d_k general; none for dot products",
        train_cost="O(nm (a + d)) for n queries and m keys; keeps the n × m weights",
        use_cost="O(m (a + d)) a query; keeps the m keys and values"),
    Architecture("transformer", "attention", "Transformer",
        "Every position asks every other, many times over, with no recurrence at all.",
        2017, "Vaswani et al.; rotary positions: Su et al. 2021; groups: Ainslie et al. 2023",
        ("attention", "resnet", "regularization"), "vaswani2017attention",
        "nnlib.attention.transformer", "TransformerEncoder",
        {"embed_dim": 8, "num_heads": 2, "num_layers": 2, "dim_feedforward": 16}, (2, 5, 8),
        "gradient",
        parameters="12d² + 13d a layer, 16d² + 19d with cross-attention, at f = 4d",
        train_cost="24nd² + 4n²d FLOPs a layer forwards; every position at once",
        use_cost="24d² + 4nd FLOPs a layer and new token, with 2nd numbers cached",
    ),
    Architecture("bert", "attention", "BERT",
        "A transformer encoder that learns by filling in blanked words from both sides.",
        2018, "Devlin et al.", ("transformer",), "devlin2018bert",
        "nnlib.attention.bert", "BERT",
        {"vocab_size": 11, "embed_dim": 8, "num_heads": 2, "num_layers": 2, "max_length": 8,
         "segments": 2, "dropout": 0.1},
        (3, 8), "gradient",
        parameters="(V + T + S) d + 2d + L (12d² + 13d) + d² + d; Base has 109 million",
        train_cost="about 6 FLOPs a weight and token, for an answer at 15 % of the tokens",
        use_cost="24nd² + 4n²d FLOPs a layer for n tokens; nothing to cache",
    ),
    Architecture("gpt", "attention", "GPT",
        "A transformer decoder that learns by guessing the next token.",
        2018, "Radford et al.; GPT-3: Brown et al. 2020", ("transformer",), "radford2018improving",
        "nnlib.attention.gpt", "GPT",
        {"vocab_size": 11, "embed_dim": 8, "num_heads": 2, "num_layers": 2, "max_length": 8},
        (3, 8), "gradient",
        parameters="(v + T) d + L (12d² + 13d) + 2d; GPT-2 has 124 million to 1.6 billion",
        train_cost="about 6 FLOPs a weight and token; keeps every layer of every position",
        use_cost="with a cache 2 FLOPs a weight and token; keeps 2Ld numbers a token",
    ),
    # ------------------------------------------------------------------ Part V: language models
    Architecture("tokenization", "language", "Tokenization",
        "Text cut into frequent pieces, learned by merging pairs.",
        2016, "Sennrich, Haddow and Birch", ("seq2seq",), "sennrich2016neural"),
    Architecture("llm", "language", "Large language model",
        "The decoder block that most open models share: RMSNorm, rotary positions, SwiGLU.",
        2023, "LLaMA: Touvron et al.", ("gpt", "regularization", "activations"),
        "touvron2023llama", short="LLM"),
    Architecture("decoding", "language", "Decoding",
        "How one token is picked from a distribution, and how a draft makes that cheaper.",
        2019, "Holtzman et al.; speculative: Leviathan et al. 2022", ("gpt", "seq2seq"),
        "holtzman2019curious"),
    Architecture("inference", "language", "Inference",
        "Keep the keys and values of the past, in pages, and serve many readers at once.",
        2023, "Kwon et al.", ("gpt",), "kwon2023efficient"),
    Architecture("scaling_laws", "language", "Scaling laws",
        "Loss falls as a power of parameters, data and compute.",
        2020, "Kaplan et al.; Hoffmann et al. 2022", ("gpt",), "kaplan2020scaling"),
    Architecture("alignment", "language", "Alignment",
        "People compare answers, and the model moves towards those they prefer.",
        2017, "Christiano et al.; Ouyang et al. 2022", ("policy_gradient",), "christiano2017deep"),
    Architecture("mixture_of_experts", "language", "Mixture of experts",
        "A router sends each token to a few of many networks.",
        2017, "Shazeer et al.; idea: Jacobs et al. 1991", ("mlp", "lstm"),
        "shazeer2017outrageously", short="Experts"),
    Architecture("adapters", "language", "Adapters and LoRA",
        "Train a few new numbers beside a frozen model.",
        2019, "Houlsby et al.; LoRA: Hu et al. 2021", ("bert",), "houlsby2019parameter",
        short="LoRA, adapters"),
    Architecture("long_context", "language", "Long context",
        "Rotate, stretch or window the positions to read more than was trained on.",
        2021, "RoPE: Su et al.; YaRN: Peng et al. 2023", ("transformer",), "su2021roformer"),
    Architecture("compression", "language", "Compression",
        "Fewer bits, fewer weights, or a smaller pupil of a large teacher.",
        1989, "LeCun, Denker and Solla; distillation: Hinton et al. 2015", ("mlp",),
        "lecun1989optimal"),
    Architecture("retrieval", "language", "Retrieval",
        "Look the passage up first, then answer with it in view.",
        2020, "Lewis et al.", ("bert", "word2vec"), "lewis2020retrieval"),
    # ------------------------------------------------------------------ Part VI: generative models
    Architecture("autoencoder", "generative", "Autoencoder",
        "Squeeze the input through a narrow code and rebuild it.",
        1986, "Rumelhart, Hinton and Williams", ("mlp",), "rumelhart1986internal"),
    Architecture("vae", "generative", "Variational autoencoder",
        "A code that is a distribution, so that new codes can be drawn.",
        2013, "Kingma and Welling", ("autoencoder",), "kingma2013auto", short="VAE"),
    Architecture("gan", "generative", "Generative adversarial network",
        "One network forges, another judges, and both improve.",
        2014, "Goodfellow et al.", ("mlp",), "goodfellow2014generative", short="GAN"),
    Architecture("diffusion", "generative", "Diffusion model",
        "Learn to undo a little noise; then undo all of it, from noise to picture.",
        2015, "Sohl-Dickstein et al.; DDPM: Ho et al. 2020", ("energy_based", "vae"),
        "sohldickstein2015deep", short="Diffusion"),
    Architecture("normalizing_flow", "generative", "Normalizing flow",
        "An invertible map with a tractable Jacobian turns noise into data and back.",
        2014, "Dinh, Krueger and Bengio", ("mlp", "autoencoder"), "dinh2014nice", short="Flow"),
    # ------------------------------------------------------------------ Part VII: energy models
    Architecture("energy_based", "energy", "Energy-based model",
        "Learn a landscape that is low where the data lie.",
        2006, "LeCun et al.; contrastive divergence: Hinton 2002", ("boltzmann",),
        "lecun2006tutorial", short="Energy-based"),
    Architecture("boltzmann", "energy", "Boltzmann machine",
        "A noisy Hopfield network with hidden units that learns a distribution.",
        1985, "Ackley, Hinton and Sejnowski", ("hopfield",), "ackley1985learning",
        short="Boltzmann"),
    Architecture("rbm", "energy", "Restricted Boltzmann machine",
        "Two layers and no edges within them, so that sampling is one matrix product.",
        1986, "Smolensky; contrastive divergence: Hinton 2002", ("boltzmann",),
        "smolensky1986information", short="RBM"),
    # ------------------------------------------------------------------ Part VIII: representation
    Architecture("contrastive", "representation", "Contrastive learning",
        "Pull two views of one thing together and push the rest apart.",
        1993, "Siamese: Bromley et al.; SimCLR: Chen et al. 2020", ("cnn",),
        "bromley1993signature", short="Contrastive"),
    Architecture("jepa", "representation", "JEPA",
        "Predict the meaning of what is hidden, not its pixels.",
        2022, "LeCun; I-JEPA: Assran et al. 2023", ("contrastive", "vit"), "lecun2022path"),
    Architecture("word2vec", "representation", "Word vectors",
        "A word is known by the company it keeps.",
        2013, "Mikolov et al.", ("mlp",), "mikolov2013efficient"),
    Architecture("self_organizing_map", "representation", "Self-organizing map",
        "Units on a grid move towards the data and drag their neighbours along.",
        1982, "Kohonen", (), "kohonen1982self"),
    # ------------------------------------------------------------------ Part IX: graphs
    Architecture("message_passing", "graph", "Message passing",
        "Every node updates itself from what its neighbours send.",
        2009, "Scarselli et al.; framework: Gilmer et al. 2017", ("rnn",), "scarselli2009graph"),
    Architecture("gcn", "graph", "Graph convolutional network",
        "Average the neighbours, then apply one affine map.",
        2016, "Kipf and Welling", ("message_passing", "cnn"), "kipf2016semi", short="GCN"),
    Architecture("graph_attention", "graph", "Graph attention network",
        "Weigh each neighbour by how much it matters here.",
        2017, "Veličković et al.; GATv2: Brody et al. 2021", ("gcn", "attention"),
        "velickovic2017graph", short="GAT"),
    # ------------------------------------------------------------------ Part X: memory
    Architecture("hopfield", "memory", "Hopfield network",
        "Stored patterns are valleys; a broken pattern rolls into the nearest.",
        1982, "Hopfield; modern form: Ramsauer et al. 2020", (), "hopfield1982neural",
        short="Hopfield"),
    Architecture("neural_turing_machine", "memory", "Neural Turing machine",
        "A network with a tape that it reads and writes by soft addresses.",
        2014, "Graves, Wayne and Danihelka", ("lstm", "attention"), "graves2014neural",
        short="Turing machine"),
    # ------------------------------------------------------------------ Part XI: dynamics
    Architecture("neural_ode", "dynamics", "Neural ODE",
        "Layers so thin that the network becomes a differential equation.",
        2018, "Chen et al.", ("resnet", "normalizing_flow"), "chen2018neural"),
    Architecture("liquid", "dynamics", "Liquid network",
        "Neurons whose time constants depend on what they see.",
        2020, "Hasani et al.", ("neural_ode", "rnn"), "hasani2020liquid", short="Liquid"),
    Architecture("spiking", "dynamics", "Spiking network",
        "Neurons leak, fire and fall silent; time carries the message.",
        1997, "Maass; integrate and fire: Lapicque 1907", ("perceptron",), "maass1997networks",
        short="Spiking"),
    Architecture("neural_cellular_automata", "dynamics", "Neural cellular automaton",
        "One local rule, learned, grows a picture from a cell.",
        2020, "Mordvintsev et al.", ("cnn", "rnn"), "mordvintsev2020growing",
        short="Cellular automaton"),
    # ------------------------------------------------------------------ Part XII: approximation
    Architecture("rbf_network", "approximation", "Radial basis function network",
        "A sum of bumps, each answering near its own centre.",
        1988, "Broomhead and Lowe", ("mlp",), "broomhead1988multivariable", short="RBF"),
    Architecture("kan", "approximation", "Kolmogorov–Arnold network",
        "Learned curves on the edges, plain sums at the nodes.",
        2024, "Liu et al.", ("mlp",), "liu2024kan", short="KAN"),
    Architecture("hypernetwork", "approximation", "Hypernetwork",
        "A network whose output is the weights of another.",
        2016, "Ha, Dai and Le", ("mlp", "lstm"), "ha2016hypernetworks"),
    # ------------------------------------------------------------------ Part XIII: uncertainty
    Architecture("bayesian", "probabilistic", "Bayesian network of weights",
        "Not one set of weights but a distribution over them.",
        1992, "MacKay; Bayes by backprop: Blundell et al. 2015", ("mlp", "backpropagation"),
        "mackay1992practical", short="Bayesian"),
    Architecture("mixture_density", "probabilistic", "Mixture density network",
        "An answer with several peaks, where several answers are right.",
        1994, "Bishop", ("mlp",), "bishop1994mixture", short="Mixture density"),
    # ------------------------------------------------------------------ Part XIV: reinforcement
    Architecture("dqn", "reinforcement", "Deep Q-network",
        "Learn what each action is worth, from a memory of what happened.",
        2013, "Mnih et al.", ("cnn",), "mnih2013playing", short="DQN"),
    Architecture("policy_gradient", "reinforcement", "Policy gradient",
        "Make the actions that went well more likely.",
        1992, "Williams; PPO: Schulman et al. 2017", ("mlp",), "williams1992simple"),
    # ------------------------------------------------------------------ Part XV: kernels
    Architecture("roofline", "kernels", "Roofline",
        "An operation is held up by its arithmetic or by its bytes; know which.",
        2009, "Williams, Waterman and Patterson", (), "williams2009roofline",
        "nnlib.kernels.roofline", "attainable",
        parameters="three numbers a machine: FLOPs and bytes a second, seconds a launch",
        train_cost="not needed",
        use_cost="two numbers an operation: its FLOPs and its bytes",
    ),
    Architecture("flash_attention", "kernels", "FlashAttention",
        "Exact attention in tiles that never leave the chip.",
        2022, "Dao et al.; online softmax: Milakov and Gimelshein 2018; FlashAttention-2: Dao 2023",
        ("transformer", "roofline"), "dao2022flashattention",
        "nnlib.kernels.attention", "attention",
        parameters="none",
        train_cost="14n²d FLOPs a head with the backward pass; keeps one number a query",
        use_cost="4n²d FLOPs a head, half of it when causal; holds no table of n² scores",
    ),
    Architecture("parallel_scan", "kernels", "Parallel scan",
        "A recurrence in logarithmic depth, because its steps can be bracketed anew.",
        1990, "Blelloch", (), "blelloch1990prefix"),
    Architecture("quantized_matmul", "kernels", "Quantized matrix product",
        "Multiply in few bits, with a scale for every block.",
        2022, "Dettmers et al.", ("compression", "roofline"), "dettmers2022llmint8",
        short="Quantized"),
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
        hint = " or ".join(repr(other) for other in near) or "a name of nnlib.catalog.ARCHITECTURES"
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
        raise ValueError(f"name={name!r} is planned: it has a row in the catalogue, but no module")
    return getattr(importlib.import_module(row.module), row.cls)
