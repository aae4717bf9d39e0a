//! Other libraries' names for a Vision Transformer's tensors, one table each.

use super::resample::Filter;
use super::spec::Convention;

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

/// One of our parameters and what it is made of.
pub(super) struct Entry {
    pub ours: &'static str,
    pub theirs: &'static [&'static str],
    pub layout: Layout,
    /// Whether some models of the family lack it.
    pub optional: bool,
}

/// One library's names.
pub(super) struct Table {
    pub convention: Convention,
    /// What a person calls it.
    pub name: &'static str,
    /// In front of every name, when the trunk was saved inside a larger model.
    pub prefixes: &'static [&'static str],
    /// In front of a block's names; `#` is its index.
    pub block: &'static str,
    pub top: &'static [Entry],
    pub inner: &'static [Entry],
    /// Beginnings of names that the trunk does not use.
    pub ignored: &'static [&'static str],
    pub eps: f32,
    /// How position embeddings are resized, without registers and with them.
    pub filters: [Filter; 2],
    /// Prefix tokens with a position embedding, likeliest first (given the number of registers).
    pub pos_prefixes: fn(usize) -> [usize; 2],
}

const fn entry(ours: &'static str, theirs: &'static [&'static str], layout: Layout) -> Entry {
    Entry { ours, theirs, layout, optional: false }
}

const fn optional(ours: &'static str, theirs: &'static [&'static str], layout: Layout) -> Entry {
    Entry { ours, theirs, layout, optional: true }
}

use Layout::{Axes, Conv, Linear};

const HF_TOP: &[Entry] = &[
    entry("cls", &["embeddings.cls_token"], Axes(1)),
    entry("pos", &["embeddings.position_embeddings"], Axes(2)),
    optional("registers", &["embeddings.register_tokens"], Axes(2)),
    entry("patch/kernel", &["embeddings.patch_embeddings.projection.weight"], Conv),
    entry("patch/bias", &["embeddings.patch_embeddings.projection.bias"], Axes(1)),
    entry("norm/scale", &["layernorm.weight"], Axes(1)),
    entry("norm/bias", &["layernorm.bias"], Axes(1)),
];

macro_rules! hf_block {
    ($q:literal, $k:literal, $v:literal, $out:literal) => {
        &[
            entry("norm1/scale", &["norm1.weight"], Axes(1)),
            entry("norm1/bias", &["norm1.bias"], Axes(1)),
            entry("attn/qkv/kernel", &[concat!($q, ".weight"), concat!($k, ".weight"), concat!($v, ".weight")], Linear),
            entry("attn/qkv/bias", &[concat!($q, ".bias"), concat!($k, ".bias"), concat!($v, ".bias")], Axes(1)),
            entry("attn/proj/kernel", &[concat!($out, ".weight")], Linear),
            entry("attn/proj/bias", &[concat!($out, ".bias")], Axes(1)),
            optional("ls1/scale", &["layer_scale1.lambda1"], Axes(1)),
            entry("norm2/scale", &["norm2.weight"], Axes(1)),
            entry("norm2/bias", &["norm2.bias"], Axes(1)),
            entry("mlp/fc1/kernel", &["mlp.fc1.weight"], Linear),
            entry("mlp/fc1/bias", &["mlp.fc1.bias"], Axes(1)),
            entry("mlp/fc2/kernel", &["mlp.fc2.weight"], Linear),
            entry("mlp/fc2/bias", &["mlp.fc2.bias"], Axes(1)),
            optional("ls2/scale", &["layer_scale2.lambda1"], Axes(1)),
        ]
    };
}

const HF_HUB: Table = Table {
    convention: Convention::Dinov2,
    name: "Hugging Face DINOv2",
    prefixes: &["", "dinov2.", "dinov2_with_registers.", "backbone."],
    block: "encoder.layer.#.",
    top: HF_TOP,
    inner: hf_block!(
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense"
    ),
    ignored: &["embeddings.mask_token", "classifier."],
    eps: 1e-6,
    filters: [Filter::Bicubic, Filter::BicubicAntialias],
    pos_prefixes: |_| [1, 1],
};

const HF_V5: Table = Table {
    convention: Convention::Dinov2V5,
    name: "Hugging Face DINOv2 (transformers 5)",
    inner: hf_block!("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"),
    ..HF_HUB
};

const TIMM: Table = Table {
    convention: Convention::Timm,
    name: "timm",
    prefixes: &["", "model.", "backbone."],
    block: "blocks.#.",
    top: &[
        entry("cls", &["cls_token"], Axes(1)),
        entry("pos", &["pos_embed"], Axes(2)),
        optional("registers", &["reg_token"], Axes(2)),
        entry("patch/kernel", &["patch_embed.proj.weight"], Conv),
        entry("patch/bias", &["patch_embed.proj.bias"], Axes(1)),
        entry("norm/scale", &["norm.weight"], Axes(1)),
        entry("norm/bias", &["norm.bias"], Axes(1)),
    ],
    inner: &[
        entry("norm1/scale", &["norm1.weight"], Axes(1)),
        entry("norm1/bias", &["norm1.bias"], Axes(1)),
        entry("attn/qkv/kernel", &["attn.qkv.weight"], Linear),
        entry("attn/qkv/bias", &["attn.qkv.bias"], Axes(1)),
        entry("attn/proj/kernel", &["attn.proj.weight"], Linear),
        entry("attn/proj/bias", &["attn.proj.bias"], Axes(1)),
        optional("ls1/scale", &["ls1.gamma"], Axes(1)),
        entry("norm2/scale", &["norm2.weight"], Axes(1)),
        entry("norm2/bias", &["norm2.bias"], Axes(1)),
        entry("mlp/fc1/kernel", &["mlp.fc1.weight"], Linear),
        entry("mlp/fc1/bias", &["mlp.fc1.bias"], Axes(1)),
        entry("mlp/fc2/kernel", &["mlp.fc2.weight"], Linear),
        entry("mlp/fc2/bias", &["mlp.fc2.bias"], Axes(1)),
        optional("ls2/scale", &["ls2.gamma"], Axes(1)),
    ],
    ignored: &["head.", "mask_token"],
    eps: 1e-6,
    filters: [Filter::BicubicAntialias, Filter::BicubicAntialias],
    pos_prefixes: |registers| [1 + registers, 0],
};

/// Every known library.
pub(super) const TABLES: &[Table] = &[HF_HUB, HF_V5, TIMM];

impl Table {
    /// Our path and their names of every entry, for this many blocks; their names without the prefix.
    pub fn entries(&self, depth: usize) -> impl Iterator<Item = (String, Vec<String>, &Entry)> {
        let top = self.top.iter().map(|e| (e.ours.to_string(), owned("", e.theirs), e));
        let blocks = (0..depth).flat_map(move |i| {
            let prefix = self.block_prefix(i);
            self.inner.iter().map(move |e| (format!("blocks/{i}/{}", e.ours), owned(&prefix, e.theirs), e))
        });
        top.chain(blocks)
    }

    /// In front of the names of block `i`.
    pub fn block_prefix(&self, i: usize) -> String {
        self.block.replace('#', &i.to_string())
    }

    /// The name by which a file of this library is recognised: the first block's query projection.
    pub fn mark(&self) -> String {
        let attention = self.inner.iter().find(|e| e.ours == "attn/qkv/kernel");
        self.block_prefix(0) + attention.map_or("", |e| e.theirs[0])
    }
}

fn owned(prefix: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}
