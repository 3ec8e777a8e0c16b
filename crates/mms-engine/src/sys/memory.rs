//! What llama.cpp takes, or would take where the model was loaded without its tensors: by device, and tensor by tensor.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as ll;

use super::context::{Context, clamp, model_pointer};
use super::pages::populate;

/// The name of RAM.
const CPU: &str = "cpu";

/// Memory of one device, bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Share {
    /// `cpu` (RAM), or llama.cpp's name such as `CUDA0`.
    pub(crate) device: String,
    /// Tensors.
    pub(crate) model: u64,
    /// KV cache, recurrent states.
    pub(crate) context: u64,
    /// Scratch memory of a batch step.
    pub(crate) compute: u64,
}

/// One tensor where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// In plain memory of the CPU, as the file has it; neither repacked nor on another device.
    pub(crate) plain: bool,
}

/// One tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    /// From the beginning of the file, bytes.
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// As in memory.cpp.
#[repr(C)]
#[derive(Clone, Copy)]
struct Row {
    kind: ll::ggml_backend_buffer_type_t,
    model: usize,
    context: usize,
    compute: usize,
}

unsafe extern "C" {
    fn mms_memory(context: *const ll::llama_context, rows: *mut Row, room: usize) -> usize;
    fn mms_tensors(model: *const ll::llama_model, tensors: *mut *const ll::ggml_tensor, room: usize) -> usize;
    fn mms_reserve(context: *mut ll::llama_context) -> bool;
    fn mms_reserve_outputs(context: *mut ll::llama_context, rows: i32) -> bool;
    fn mms_scheduler(context: *const ll::llama_context) -> ll::ggml_backend_sched_t;
    fn mms_graph(context: *mut ll::llama_context, tokens: u32, sequences: u32, outputs: u32) -> *mut ll::ggml_cgraph;
}

impl Context<'_> {
    /// What model and context take, the CPU first and always.
    pub(crate) fn memory(&self) -> Vec<Share> {
        let empty = Row { kind: std::ptr::null_mut(), model: 0, context: 0, compute: 0 };
        // SAFETY: the context is valid; with no room nothing is written.
        let count = unsafe { mms_memory(self.as_ptr(), std::ptr::null_mut(), 0) };
        let mut rows = vec![empty; count];
        // SAFETY: there are as many rows as said.
        unsafe { mms_memory(self.as_ptr(), rows.as_mut_ptr(), rows.len()) };
        let mut shares = BTreeMap::from([(String::new(), Share { device: CPU.to_owned(), ..Share::default() })]);
        for row in rows {
            let device = device_of(row.kind);
            let share = shares.entry(device.clone().unwrap_or_default()).or_default();
            if let Some(device) = device {
                share.device = device;
            }
            share.model += row.model as u64;
            share.context += row.context as u64;
            share.compute += row.compute as u64;
        }
        shares.into_values().collect()
    }

    /// Makes the scratch memory fit what was changed since the context was made, as the first batch would. False: there is not enough.
    pub(crate) fn reserve(&mut self) -> bool {
        // SAFETY: the context is valid, and nothing is being computed, since that needs `&mut self` as well.
        unsafe { mms_reserve(self.as_ptr()) }
    }

    /// What the buffer of logits and vectors grows by when a batch has the most outputs, bytes of RAM; it begins with one row for each
    /// sequence, which has a vector only in a pooled context.
    pub(crate) fn output_growth_bytes(&self) -> u64 {
        let options = self.options();
        let row =
            |vector: bool| ((self.vocabulary() + if vector { self.width() } else { 0 }) * size_of::<f32>()) as u64;
        let all = u64::from(options.outputs.max(options.sequences)) * row(true);
        all - u64::from(options.sequences) * row(options.pooled.is_some())
    }

    /// Has that buffer at its largest now. False: there is not enough memory.
    pub(crate) fn take_outputs(&mut self) -> bool {
        // SAFETY: the context is valid and computes nothing, since that needs `&mut self` as well.
        unsafe { mms_reserve_outputs(self.as_ptr(), clamp(self.options().outputs as usize)) }
    }

    /// What the CPU needs besides while it computes the largest batch, bytes: for activations of another type, and per thread. Only
    /// where nothing is on another device, on which this would take memory; the CPU has hardly anything to do there.
    pub(crate) fn work_bytes(&mut self) -> u64 {
        let threads = clamp(self.most_threads() as usize);
        let Some(graph) = self.largest_graph() else { return 0 };
        // SAFETY: the graph is valid until the next one is made.
        unsafe { ll::ggml_graph_plan(graph.as_ptr(), threads, std::ptr::null_mut()).work_size as u64 }
    }

    /// Has all scratch memory in RAM. llama.cpp leaves what it has not used yet to the kernel, so that a large batch would be the first
    /// to find out whether there is that much. Where this does not work, memory is taken when it is used.
    pub(crate) fn take_scratch_memory(&mut self) {
        let mut spans = BTreeMap::new();
        if let Some(graph) = self.largest_graph() {
            // SAFETY: the context computes nothing; the graph is valid until the next one is made, and so is the scheduler, which
            // places the graph's steps and then forgets it. Buffers of placed tensors are valid.
            unsafe {
                let scheduler = mms_scheduler(self.as_ptr());
                ll::ggml_backend_sched_reset(scheduler);
                if ll::ggml_backend_sched_alloc_graph(scheduler, graph.as_ptr()) {
                    for index in 0..ll::ggml_graph_n_nodes(graph.as_ptr()) {
                        let buffer = (*ll::ggml_graph_node(graph.as_ptr(), index)).buffer;
                        if !buffer.is_null()
                            && ll::ggml_backend_buffer_get_usage(buffer) == ll::GGML_BACKEND_BUFFER_USAGE_COMPUTE
                        {
                            let base = ll::ggml_backend_buffer_get_base(buffer) as usize;
                            spans.insert(base, ll::ggml_backend_buffer_get_size(buffer));
                        }
                    }
                }
                ll::ggml_backend_sched_reset(scheduler);
            }
        }
        for (base, size) in spans {
            match populate(base..base + size) {
                Ok(()) => tracing::debug!(size, "scratch memory taken"),
                Err(error) => tracing::debug!(size, %error, "scratch memory is taken when it is used"),
            }
        }
    }

    /// What the largest batch computes. `None`: there is no memory for it.
    fn largest_graph(&mut self) -> Option<NonNull<ll::ggml_cgraph>> {
        let options = self.options();
        let tokens = options.ubatch.min(options.tokens);
        // SAFETY: the context is valid and computes nothing, since that needs `&mut self` as well.
        NonNull::new(unsafe { mms_graph(self.as_ptr(), tokens, options.sequences, options.outputs.min(tokens)) })
    }
}

/// All tensors of the model. One that is used in two ways may be there twice.
pub(crate) fn tensors(model: &LlamaModel) -> Vec<Place> {
    let model = model_pointer(model);
    // SAFETY: the model is valid; with no room nothing is written.
    let count = unsafe { mms_tensors(model, std::ptr::null_mut(), 0) };
    let mut pointers = vec![std::ptr::null(); count];
    // SAFETY: there is as much room as said; the tensors live as long as the model, and have names and, since it is loaded, buffers.
    unsafe {
        mms_tensors(model, pointers.as_mut_ptr(), pointers.len());
        pointers
            .into_iter()
            .filter(|tensor: &*const ll::ggml_tensor| !tensor.is_null())
            .map(|tensor| {
                let buffer = (*tensor).buffer;
                Place {
                    name: text(ll::ggml_get_name(tensor)),
                    bytes: ll::ggml_nbytes(tensor) as u64,
                    plain: !buffer.is_null() && ll::ggml_backend_buft_is_host(ll::ggml_backend_buffer_get_type(buffer)),
                }
            })
            .collect()
    }
}

/// Where a GGUF file has its tensors; only its header is read. `None`: it cannot be read.
pub(crate) fn stored_tensors(path: &Path) -> Option<Vec<Stored>> {
    let path = CString::new(path.to_str()?).ok()?;
    let params = ll::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
    // SAFETY: the path is a C string; the header is used only between its making and its end, and with indices below its count.
    unsafe {
        let file = ll::gguf_init_from_file(path.as_ptr(), params);
        if file.is_null() {
            return None;
        }
        let start = ll::gguf_get_data_offset(file);
        let stored = (0..ll::gguf_get_n_tensors(file)).map(|index| {
            let begin = (start + ll::gguf_get_tensor_offset(file, index)) as u64;
            let end = begin + ll::gguf_get_tensor_size(file, index) as u64;
            Stored { name: text(ll::gguf_get_tensor_name(file, index)), begin, end }
        });
        let stored = stored.collect();
        ll::gguf_free(file);
        Some(stored)
    }
}

/// `None`: it is RAM.
fn device_of(kind: ll::ggml_backend_buffer_type_t) -> Option<String> {
    // SAFETY: kinds of buffers and devices are never freed; these functions only read.
    unsafe {
        if ll::ggml_backend_buft_is_host(kind) {
            return None;
        }
        let device = ll::ggml_backend_buft_get_device(kind);
        if device.is_null() {
            return None;
        }
        match ll::ggml_backend_dev_type(device) {
            ll::GGML_BACKEND_DEVICE_TYPE_CPU | ll::GGML_BACKEND_DEVICE_TYPE_ACCEL => None,
            _ => Some(text(ll::ggml_backend_dev_name(device))),
        }
    }
}

/// # Safety
///
/// A NUL-terminated string, or NULL.
unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
