package engine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// ModelName is what an engine calls its model.
	ModelName = "tiny"
	// vocabulary is the number of tokens. The first three are special.
	vocabulary = 4096
	// modelWidth is the hidden size.
	modelWidth = 64
	// modelLength is the longest context, in tokens.
	modelLength = 128 << 10
)

// writeModel makes a model without weights: a Llama of two layers and 64 dimensions,
// which takes a millisecond a step, and a tokenizer of whole words, t3 to t4095. vLLM
// makes up the weights itself (--load-format dummy).
func writeModel(dir string) error {
	config := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama",
		"hidden_size": modelWidth, "intermediate_size": 128, "num_hidden_layers": 2,
		"num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu",
		"vocab_size": vocabulary, "max_position_embeddings": modelLength,
		"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
		"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
	}
	special := []string{"<unk>", "<s>", "</s>"}
	words := map[string]int{}
	var added []map[string]any
	for id := range vocabulary {
		word := fmt.Sprintf("t%d", id)
		if id < len(special) {
			word = special[id]
			added = append(added, map[string]any{
				"id": id, "content": word, "special": true,
				"single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
			})
		}
		words[word] = id
	}
	tokenizer := map[string]any{
		"version": "1.0", "added_tokens": added,
		"truncation": nil, "padding": nil, "normalizer": nil, "post_processor": nil, "decoder": nil,
		"pre_tokenizer": map[string]any{"type": "WhitespaceSplit"},
		"model":         map[string]any{"type": "WordLevel", "vocab": words, "unk_token": special[0]},
	}
	about := map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": modelLength,
		"pad_token": special[0], "unk_token": special[0], "bos_token": special[1], "eos_token": special[2],
	}
	for name, content := range map[string]any{
		"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": about,
	} {
		if err := writeJSON(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(path string, content any) error {
	bytes, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes, 0o600)
}
