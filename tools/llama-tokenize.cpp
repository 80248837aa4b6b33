// Tokenizes lines with llama.cpp: the reference for what the library makes of a GGUF.
//
// usage: llama-tokenize FILE.gguf ADD_SPECIAL PARSE_SPECIAL < texts, each a line of hexadecimal digits
// For each line: ids, a tab, the text of the ids with special tokens in hexadecimal, a tab, the same without.
//
// build, with llama.cpp configured as static libraries in $B and its source in $L:
//   c++ -O1 -std=c++17 -fopenmp -I$L/include -I$L/ggml/include llama-tokenize.cpp $B/src/libllama.a \
//       $B/ggml/src/libggml.a $B/ggml/src/libggml-cpu.a $B/ggml/src/libggml-base.a -lpthread -ldl -lm -o llama-tokenize
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

static std::string unhex(const std::string & digits) {
    std::string bytes;
    for (size_t at = 0; at + 1 < digits.size(); at += 2) {
        bytes.push_back((char) std::stoi(digits.substr(at, 2), nullptr, 16));
    }
    return bytes;
}

static void print(const llama_vocab * vocab, const std::vector<llama_token> & ids, bool remove, bool special) {
    std::vector<char> text(1 << 16);
    int length = llama_detokenize(vocab, ids.data(), ids.size(), text.data(), text.size(), remove, special);
    if (length < 0) {
        text.resize(-length);
        length = llama_detokenize(vocab, ids.data(), ids.size(), text.data(), text.size(), remove, special);
    }
    for (int at = 0; at < length; ++at) {
        printf("%02x", (unsigned char) text[at]);
    }
}

int main(int count, char ** arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: llama-tokenize FILE.gguf ADD_SPECIAL PARSE_SPECIAL < LINES\n");
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    auto parameters = llama_model_default_params();
    parameters.vocab_only = true;
    auto * model = llama_model_load_from_file(arguments[1], parameters);
    if (!model) {
        fprintf(stderr, "%s cannot be loaded\n", arguments[1]);
        return 1;
    }
    const auto * vocab = llama_model_get_vocab(model);
    const bool add = atoi(arguments[2]), parse = atoi(arguments[3]);
    std::string line;
    while (std::getline(std::cin, line)) {
        const std::string text = unhex(line);
        std::vector<llama_token> ids(text.size() + 16);
        int length = llama_tokenize(vocab, text.data(), text.size(), ids.data(), ids.size(), add, parse);
        if (length < 0) {
            ids.resize(-length);
            length = llama_tokenize(vocab, text.data(), text.size(), ids.data(), ids.size(), add, parse);
        }
        ids.resize(length);
        for (size_t at = 0; at < ids.size(); ++at) {
            printf("%s%d", at ? " " : "", ids[at]);
        }
        printf("\t");
        print(vocab, ids, false, true);
        printf("\t");
        print(vocab, ids, true, false);
        printf("\n");
    }
}
