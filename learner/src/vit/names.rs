//! Other libraries' names for a Vision Transformer's tensors, one table each.

use shared::vit::{Activation, Filter, Pixels};

/// Whose names a weights file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DINOv2, of Hugging Face.
    Dinov2,
    /// DINOv2, of its authors (torch hub).
    Dinov2Original,
    /// DINOv3, of Hugging Face.
    Dinov3,
    /// ViT, of Hugging Face; MAE is one of them.
    Vit,
    /// The image half of CLIP, of Hugging Face.
    Clip,
    /// The image half of SigLIP, of Hugging Face.
    Siglip,
    /// timm, and what has the same names: MAE and DeiT of their authors.
    Timm,
    /// torchvision.
    Torchvision,
}

impl Family {
    /// Every family with its name in configs.
    pub const ALL: [(&str, Self); 8] = [
        ("dinov2", Self::Dinov2),
        ("dinov2original", Self::Dinov2Original),
        ("dinov3", Self::Dinov3),
        ("vit", Self::Vit),
        ("clip", Self::Clip),
        ("siglip", Self::Siglip),
        ("timm", Self::Timm),
        ("torchvision", Self::Torchvision),
    ];

    /// From its name in configs.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
    }
}

/// How a foreign tensor becomes ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Axes of length 1 in front are dropped until this many axes are left.
    Axes(usize),
    /// [out, in] becomes [in, out]; several are concatenated along out.
    Linear,
    /// [out, in, h, w] becomes [h, w, in, out].
    Conv,
}

/// What it means that a file lacks a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// It is an error.
    Error,
    /// The model has no such part, or it comes under another name.
    Skip,
    /// A bias of zeros, as many as its `.weight` has outputs.
    Zeros,
}

/// One of our parameters and what it is made of. Of several entries for one parameter the first that is there counts.
pub(super) struct Entry {
    pub ours: &'static str,
    pub theirs: &'static [&'static str],
    pub layout: Layout,
    pub absent: Absent,
}

type Groups = &'static [&'static [Entry]];

/// One library's names.
pub(super) struct Table {
    pub family: Family,
    /// What a person calls it.
    pub name: &'static str,
    /// In front of a block's names; `#` is its index.
    pub block: &'static str,
    pub top: Groups,
    pub inner: Groups,
    /// Names that tell this library from others with the same blocks.
    pub requires: &'static [&'static str],
    /// Beginnings of names that the trunk does not use.
    pub ignored: &'static [&'static str],
    pub activation: Activation,
    pub eps: f32,
    /// Heads of published models, by width.
    pub heads: fn(usize) -> usize,
    /// How position embeddings are resized, without registers and with them.
    pub filters: [Filter; 2],
    /// Prefix tokens with a position embedding, likeliest first (given the number of registers).
    pub pos_prefixes: fn(usize) -> [usize; 2],
    /// Base of rotary positions, if it has those.
    pub rotary: Option<f32>,
    /// Whether the library's own last tokens have passed the final norm.
    pub normed: bool,
    /// What the published models were trained on.
    pub pixels: Pixels,
}

const fn entry(ours: &'static str, theirs: &'static [&'static str], layout: Layout) -> Entry {
    Entry { ours, theirs, layout, absent: Absent::Error }
}

const fn optional(ours: &'static str, theirs: &'static [&'static str], layout: Layout) -> Entry {
    Entry { ours, theirs, layout, absent: Absent::Skip }
}

const fn bias(ours: &'static str, theirs: &'static [&'static str]) -> Entry {
    Entry { ours, theirs, layout: Layout::Axes(1), absent: Absent::Zeros }
}

use Layout::{Axes, Conv, Linear};

/// Heads are 64 wide, but for the huge models.
fn heads_of_64(width: usize) -> usize {
    match width {
        1152 | 1280 | 1408 | 1664 => 16,
        _ => width / 64,
    }
}

/// Kernel and bias of a projection.
macro_rules! linear {
    ($ours:literal, $theirs:literal) => {
        [
            entry(concat!($ours, "/kernel"), &[concat!($theirs, ".weight")], Linear),
            bias(concat!($ours, "/bias"), &[concat!($theirs, ".bias")]),
        ]
    };
}

/// Scale and bias of a norm.
macro_rules! norm {
    ($ours:literal, $theirs:literal) => {
        [
            entry(concat!($ours, "/scale"), &[concat!($theirs, ".weight")], Axes(1)),
            entry(concat!($ours, "/bias"), &[concat!($theirs, ".bias")], Axes(1)),
        ]
    };
}

/// Queries, keys and values in three projections.
macro_rules! qkv {
    ($q:literal, $k:literal, $v:literal) => {
        [
            entry("attn/qkv/kernel", &[concat!($q, ".weight"), concat!($k, ".weight"), concat!($v, ".weight")], Linear),
            bias("attn/qkv/bias", &[concat!($q, ".bias"), concat!($k, ".bias"), concat!($v, ".bias")]),
        ]
    };
}

/// A projection under names that only some models use, several concatenated along their outputs.
macro_rules! optional_linear {
    ($ours:literal, $($theirs:literal),*) => {
        [
            optional(concat!($ours, "/kernel"), &[$(concat!($theirs, ".weight")),*], Linear),
            optional(concat!($ours, "/bias"), &[$(concat!($theirs, ".bias")),*], Axes(1)),
        ]
    };
}

/// Learned scales of the residual branches.
macro_rules! scales {
    ($first:literal, $second:literal) => {
        [optional("ls1/scale", &[$first], Axes(1)), optional("ls2/scale", &[$second], Axes(1))]
    };
}

/// Fused queries, keys and values.
macro_rules! fused {
    ($weight:literal, $bias:literal) => {
        [entry("attn/qkv/kernel", &[$weight], Linear), bias("attn/qkv/bias", &[$bias])]
    };
}

const HF_EMBEDDINGS: &[Entry] = &[
    entry("cls", &["embeddings.cls_token"], Axes(1)),
    entry("pos", &["embeddings.position_embeddings"], Axes(2)),
    optional("registers", &["embeddings.register_tokens"], Axes(2)),
    entry("patch/kernel", &["embeddings.patch_embeddings.projection.weight"], Conv),
    bias("patch/bias", &["embeddings.patch_embeddings.projection.bias"]),
];

const DINOV2_HUB: Table = Table {
    family: Family::Dinov2,
    name: "DINOv2 of Hugging Face",
    block: "encoder.layer.#.",
    top: &[HF_EMBEDDINGS, &norm!("norm", "layernorm")],
    inner: &[
        &norm!("norm1", "norm1"),
        &qkv!("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        &linear!("attn/proj", "attention.output.dense"),
        DINOV2_REST[0],
        DINOV2_REST[1],
        DINOV2_REST[2],
        DINOV2_REST[3],
        DINOV2_REST[4],
        DINOV2_REST[5],
    ],
    requires: &["encoder.layer.0.norm1.weight"],
    ignored: &["embeddings.mask_token", "classifier."],
    activation: Activation::Gelu,
    eps: 1e-6,
    heads: heads_of_64,
    filters: [Filter::Bicubic, Filter::BicubicAntialias],
    pos_prefixes: |_| [1, 1],
    rotary: None,
    normed: true,
    pixels: Pixels::IMAGENET,
};

/// What follows the attention; giant models have gates.
const DINOV2_REST: [&[Entry]; 6] = [
    &scales!("layer_scale1.lambda1", "layer_scale2.lambda1"),
    &norm!("norm2", "norm2"),
    &optional_linear!("mlp/fc1", "mlp.weights_in"),
    &optional_linear!("mlp/fc2", "mlp.weights_out"),
    &linear!("mlp/fc1", "mlp.fc1"),
    &linear!("mlp/fc2", "mlp.fc2"),
];

const DINOV2_V5: Table = Table {
    name: "DINOv2 of Hugging Face (transformers 5)",
    inner: &[
        &norm!("norm1", "norm1"),
        &qkv!("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        &linear!("attn/proj", "attention.o_proj"),
        DINOV2_REST[0],
        DINOV2_REST[1],
        DINOV2_REST[2],
        DINOV2_REST[3],
        DINOV2_REST[4],
        DINOV2_REST[5],
    ],
    ..DINOV2_HUB
};

const VIT_HUB: Table = Table {
    family: Family::Vit,
    name: "ViT of Hugging Face",
    inner: &[
        &norm!("norm1", "layernorm_before"),
        &qkv!("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        &linear!("attn/proj", "attention.output.dense"),
        &norm!("norm2", "layernorm_after"),
        &linear!("mlp/fc1", "intermediate.dense"),
        &linear!("mlp/fc2", "output.dense"),
    ],
    requires: &["encoder.layer.0.layernorm_before.weight"],
    ignored: &["embeddings.mask_token", "classifier.", "pooler."],
    eps: 1e-12,
    filters: [Filter::Bicubic, Filter::Bicubic],
    pixels: Pixels::SYMMETRIC,
    ..DINOV2_HUB
};

const VIT_V5: Table = Table {
    name: "ViT of Hugging Face (transformers 5)",
    block: "layers.#.",
    inner: &[
        &norm!("norm1", "layernorm_before"),
        &qkv!("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        &linear!("attn/proj", "attention.o_proj"),
        &norm!("norm2", "layernorm_after"),
        &linear!("mlp/fc1", "mlp.fc1"),
        &linear!("mlp/fc2", "mlp.fc2"),
    ],
    requires: &["layers.0.layernorm_before.weight"],
    ..VIT_HUB
};

const DINOV3: Table = Table {
    family: Family::Dinov3,
    name: "DINOv3 of Hugging Face",
    block: "layer.#.",
    top: &[
        &[
            entry("cls", &["embeddings.cls_token"], Axes(1)),
            optional("registers", &["embeddings.register_tokens"], Axes(2)),
            entry("patch/kernel", &["embeddings.patch_embeddings.weight"], Conv),
            bias("patch/bias", &["embeddings.patch_embeddings.bias"]),
        ],
        &norm!("norm", "norm"),
    ],
    inner: &[
        &norm!("norm1", "norm1"),
        &qkv!("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        &linear!("attn/proj", "attention.o_proj"),
        &scales!("layer_scale1.lambda1", "layer_scale2.lambda1"),
        &norm!("norm2", "norm2"),
        &optional_linear!("mlp/fc1", "mlp.gate_proj", "mlp.up_proj"),
        &linear!("mlp/fc1", "mlp.up_proj"),
        &linear!("mlp/fc2", "mlp.down_proj"),
    ],
    requires: &["embeddings.patch_embeddings.weight", "layer.0.mlp.up_proj.weight"],
    ignored: &["embeddings.mask_token", "rope_embeddings."],
    eps: 1e-5,
    heads: |width| if width == 4096 { 32 } else { width / 64 },
    rotary: Some(100.0),
    ..DINOV2_HUB
};

const DINOV3_V5: Table = Table {
    name: "DINOv3 of Hugging Face (transformers 5)",
    block: "model.layer.#.",
    requires: &["embeddings.patch_embeddings.weight", "model.layer.0.mlp.up_proj.weight"],
    ..DINOV3
};

const CLIP: Table = Table {
    family: Family::Clip,
    name: "CLIP of Hugging Face",
    block: "encoder.layers.#.",
    top: &[
        &[
            entry("cls", &["embeddings.class_embedding"], Axes(1)),
            entry("pos", &["embeddings.position_embedding.weight"], Axes(2)),
            entry("patch/kernel", &["embeddings.patch_embedding.weight"], Conv),
            bias("patch/bias", &["embeddings.patch_embedding.bias"]),
        ],
        // Spelt so in the files.
        &norm!("pre_norm", "pre_layrnorm"),
        &norm!("norm", "post_layernorm"),
    ],
    inner: &[
        &norm!("norm1", "layer_norm1"),
        &qkv!("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        &linear!("attn/proj", "self_attn.out_proj"),
        &norm!("norm2", "layer_norm2"),
        &linear!("mlp/fc1", "mlp.fc1"),
        &linear!("mlp/fc2", "mlp.fc2"),
    ],
    requires: &["embeddings.class_embedding"],
    ignored: &["embeddings.position_ids"],
    activation: Activation::QuickGelu,
    eps: 1e-5,
    filters: [Filter::Bicubic, Filter::Bicubic],
    normed: false,
    pixels: Pixels::CLIP,
    ..DINOV2_HUB
};

const SIGLIP: Table = Table {
    family: Family::Siglip,
    name: "SigLIP of Hugging Face",
    top: &[
        &[
            entry("pos", &["embeddings.position_embedding.weight"], Axes(2)),
            entry("patch/kernel", &["embeddings.patch_embedding.weight"], Conv),
            bias("patch/bias", &["embeddings.patch_embedding.bias"]),
        ],
        &norm!("norm", "post_layernorm"),
    ],
    requires: &["embeddings.patch_embedding.weight"],
    ignored: &["embeddings.position_ids", "head."],
    activation: Activation::GeluTanh,
    eps: 1e-6,
    pos_prefixes: |_| [0, 0],
    normed: true,
    pixels: Pixels::SYMMETRIC,
    ..CLIP
};

const TIMM_TOP: &[Entry] = &[
    optional("cls", &["cls_token"], Axes(1)),
    entry("pos", &["pos_embed"], Axes(2)),
    optional("registers", &["reg_token"], Axes(2)),
    entry("patch/kernel", &["patch_embed.proj.weight"], Conv),
    bias("patch/bias", &["patch_embed.proj.bias"]),
    optional("pre_norm/scale", &["norm_pre.weight"], Axes(1)),
    optional("pre_norm/bias", &["norm_pre.bias"], Axes(1)),
];

const TIMM: Table = Table {
    family: Family::Timm,
    name: "timm",
    block: "blocks.#.",
    top: &[TIMM_TOP, &norm!("norm", "norm")],
    inner: &[
        &norm!("norm1", "norm1"),
        &fused!("attn.qkv.weight", "attn.qkv.bias"),
        &linear!("attn/proj", "attn.proj"),
        &scales!("ls1.gamma", "ls2.gamma"),
        &norm!("norm2", "norm2"),
        &optional_linear!("mlp/fc1", "mlp.w12"),
        &optional_linear!("mlp/fc2", "mlp.w3"),
        &linear!("mlp/fc1", "mlp.fc1"),
        &linear!("mlp/fc2", "mlp.fc2"),
    ],
    requires: &["pos_embed"],
    ignored: &["head.", "head_dist.", "fc_norm.", "attn_pool.", "mask_token", "decoder_"],
    filters: [Filter::BicubicAntialias, Filter::BicubicAntialias],
    pos_prefixes: |registers| [1 + registers, 0],
    ..DINOV2_HUB
};

const DINOV2_ORIGINAL: Table = Table {
    family: Family::Dinov2Original,
    name: "DINOv2 of its authors",
    top: &[
        &[
            entry("cls", &["cls_token"], Axes(1)),
            entry("pos", &["pos_embed"], Axes(2)),
            optional("registers", &["register_tokens"], Axes(2)),
            entry("patch/kernel", &["patch_embed.proj.weight"], Conv),
            bias("patch/bias", &["patch_embed.proj.bias"]),
        ],
        &norm!("norm", "norm"),
    ],
    requires: &["pos_embed", "mask_token", "blocks.0.ls1.gamma"],
    ignored: &["head.", "mask_token"],
    filters: [Filter::Bicubic, Filter::BicubicAntialias],
    pos_prefixes: |_| [1, 1],
    ..TIMM
};

const TORCHVISION: Table = Table {
    family: Family::Torchvision,
    name: "torchvision",
    block: "encoder.layers.encoder_layer_#.",
    top: &[
        &[
            entry("cls", &["class_token"], Axes(1)),
            entry("pos", &["encoder.pos_embedding"], Axes(2)),
            entry("patch/kernel", &["conv_proj.weight"], Conv),
            bias("patch/bias", &["conv_proj.bias"]),
        ],
        &norm!("norm", "encoder.ln"),
    ],
    inner: &[
        &norm!("norm1", "ln_1"),
        &fused!("self_attention.in_proj_weight", "self_attention.in_proj_bias"),
        &linear!("attn/proj", "self_attention.out_proj"),
        &norm!("norm2", "ln_2"),
        // The MLP's layers had other names before torchvision 0.12.
        &optional_linear!("mlp/fc1", "mlp.linear_1"),
        &optional_linear!("mlp/fc2", "mlp.linear_2"),
        &linear!("mlp/fc1", "mlp.0"),
        &linear!("mlp/fc2", "mlp.3"),
    ],
    requires: &["class_token"],
    ignored: &["heads."],
    filters: [Filter::BicubicCorners, Filter::BicubicCorners],
    ..DINOV2_HUB
};

/// Every known library; the first whose names are there counts.
pub(super) const TABLES: &[Table] =
    &[DINOV2_HUB, DINOV2_V5, VIT_HUB, VIT_V5, DINOV3, DINOV3_V5, CLIP, SIGLIP, DINOV2_ORIGINAL, TIMM, TORCHVISION];

impl Table {
    /// Our path and their names of every entry, for this many blocks; their names without the prefix.
    pub fn entries(&self, depth: usize) -> impl Iterator<Item = (String, Vec<String>, &Entry)> {
        let top = self.top.iter().flat_map(|group| group.iter()).map(|e| (e.ours.to_string(), owned("", e.theirs), e));
        let blocks = (0..depth).flat_map(move |i| {
            let prefix = self.block_prefix(i);
            let inner = self.inner.iter().flat_map(|group| group.iter());
            inner.map(move |e| (format!("blocks/{i}/{}", e.ours), owned(&prefix, e.theirs), e))
        });
        top.chain(blocks)
    }

    /// In front of the names of block `i`.
    pub fn block_prefix(&self, i: usize) -> String {
        self.block.replace('#', &i.to_string())
    }

    /// The name by which a file of this library is recognised: the first block's query projection.
    pub fn mark(&self) -> String {
        let attention = self.inner.iter().flat_map(|group| group.iter()).find(|e| e.ours == "attn/qkv/kernel");
        self.block_prefix(0) + attention.map_or("", |e| e.theirs[0])
    }
}

fn owned(prefix: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}
