// What llama.cpp takes or would take, in C: its own C interface does not tell, and prints whole MiB at best.
//
// What is declared first is llama.cpp's (src/llama-ext.h, src/llama-model.h, src/llama-context.h of exactly the release that the
// workspace pins); those headers are not part of what the -sys crate offers. A test compares what comes out with a process that has
// really loaded, so a release that changes them does not go unnoticed.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

struct ggml_backend_buffer_type;
struct ggml_backend_sched;
struct ggml_cgraph;
struct ggml_tensor;
struct llama_model;

struct llama_context {
    // Makes the scheduler and its buffers anew if something has changed that they depend on.
    void sched_reserve();

    // Makes room for so many rows of logits, and of vectors where those are wanted; for how many there is room then.
    uint32_t output_reserve(int32_t n_outputs);

    ggml_backend_sched * get_sched() const;
};

struct llama_memory_breakdown_data {
    size_t model;
    size_t context;
    size_t compute;
};

std::map<ggml_backend_buffer_type *, llama_memory_breakdown_data> llama_get_memory_breakdown(const llama_context * ctx);

const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

ggml_cgraph * llama_graph_reserve(llama_context * ctx, uint32_t n_tokens, uint32_t n_seqs, uint32_t n_outputs);

extern "C" {

// Bytes in buffers of one kind.
struct mms_memory_row {
    ggml_backend_buffer_type * kind;
    size_t model;
    size_t context;
    size_t compute;
};

// Writes as many rows as there is room for; how many there are.
size_t mms_memory(const llama_context * context, mms_memory_row * rows, size_t room) noexcept {
    size_t count = 0;
    for (const auto & [kind, bytes] : llama_get_memory_breakdown(context)) {
        if (count < room) {
            rows[count] = { kind, bytes.model, bytes.context, bytes.compute };
        }
        ++count;
    }
    return count;
}

// Writes as many tensors as there is room for; how many the model has. One that is in two kinds of buffers is there twice.
size_t mms_tensors(const llama_model * model, const ggml_tensor ** tensors, size_t room) noexcept {
    size_t count = 0;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (count < room) {
            tensors[count] = tensor;
        }
        ++count;
    }
    return count;
}

// What the next llama_decode would do first. False: there is no memory for it.
bool mms_reserve(llama_context * context) noexcept {
    try {
        context->sched_reserve();
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

// What a llama_decode with so many outputs would do. False: there is no memory for it.
bool mms_reserve_outputs(llama_context * context, int32_t rows) noexcept {
    try {
        return context->output_reserve(rows) >= (uint32_t) rows;
    } catch (const std::exception &) {
        return false;
    }
}

// What places the steps of a graph in memory; until the next mms_reserve.
ggml_backend_sched * mms_scheduler(const llama_context * context) noexcept {
    return context->get_sched();
}

// The graph of such a batch, valid until the next one is made; NULL if there is no memory for it.
ggml_cgraph * mms_graph(llama_context * context, uint32_t tokens, uint32_t sequences, uint32_t outputs) noexcept {
    try {
        return llama_graph_reserve(context, tokens, sequences, outputs);
    } catch (const std::exception &) {
        return nullptr;
    }
}

}
