// Lets llama.cpp make a model from the metadata of one GGUF and write it to another, with every tensor that its loader
// may read and with the layers of next-token prediction. Built and run by make.py beside it.
#include "ggml.h"
#include "gguf.h"
#include "llama.h"

static void leave(struct ggml_tensor *, void *) {}

int main(int argc, char ** argv) {
    if (argc != 3) {
        return 2;
    }
    llama_backend_init();
    struct gguf_init_params init = { true, nullptr };
    struct gguf_context * metadata = gguf_init_from_file(argv[1], init);
    if (metadata == nullptr) {
        return 1;
    }
    struct llama_model_params params = llama_model_default_params();
    params.load_mtp = true;
    struct llama_model * model = llama_model_init_from_user(metadata, leave, nullptr, params);
    if (model == nullptr) {
        return 1;
    }
    llama_model_save_to_file(model, argv[2]);
    llama_model_free(model);
    gguf_free(metadata);
    return 0;
}
