//! Low-rank adapters (LoRA) in files of their own.

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as ll;

use super::context::model_pointer;

/// An adapter that fits a model; freed with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapter<'model> {
    raw: NonNull<ll::llama_adapter_lora>,
    model: PhantomData<&'model LlamaModel>,
}

impl<'model> Adapter<'model> {
    /// `None` when llama.cpp refuses; its log says why.
    pub(crate) fn read(model: &'model LlamaModel, path: &str) -> Option<Self> {
        let path = CString::new(path).ok()?;
        // SAFETY: the model pointer is valid and not used by another thread while it loads; llama.cpp keeps the adapter in its own
        // list of the model's adapters and frees it with the model.
        let raw = NonNull::new(unsafe { ll::llama_adapter_lora_init(model_pointer(model), path.as_ptr()) })?;
        Some(Self { raw, model: PhantomData })
    }

    /// It is meant to act only behind certain tokens of a prompt.
    pub(crate) fn waits_for_tokens(&self) -> bool {
        // SAFETY: the adapter lives as long as its model; this only reads.
        unsafe { ll::llama_adapter_get_alora_n_invocation_tokens(self.raw.as_ptr()) > 0 }
    }

    pub(super) fn as_ptr(&self) -> *mut ll::llama_adapter_lora {
        self.raw.as_ptr()
    }
}
