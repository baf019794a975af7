//! Text ↔ token ids, as transformers has them.
//!
//! [`tokenizer`] cuts text by a model's own `tokenizer.json`; [`chat_template`] writes
//! conversations as a model's own template does. Nothing here knows documents or tensors.

pub mod chat_template;
pub mod error;
pub mod tokenizer;
