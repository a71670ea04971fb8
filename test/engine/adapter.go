package engine

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
)

// AdapterName is what an engine calls its LoRA adapter, if it has one.
const AdapterName = "adapter"

// writeAdapter makes a LoRA adapter of rank 8 for one projection of the model's, all
// zero: it changes no answer.
func writeAdapter(dir string) error {
	const rank = 8
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := writeJSON(filepath.Join(dir, "adapter_config.json"), map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": ModelName,
		"r": rank, "lora_alpha": rank, "lora_dropout": 0, "bias": "none", "target_modules": []string{"o_proj"},
	})
	if err != nil {
		return err
	}
	const layer = "base_model.model.model.layers.0.self_attn.o_proj."
	return writeZeros(filepath.Join(dir, "adapter_model.safetensors"), map[string][2]int{
		layer + "lora_A.weight": {rank, modelWidth},
		layer + "lora_B.weight": {modelWidth, rank},
	})
}

// writeZeros writes a file of safetensors: the header's length, the header, the data.
func writeZeros(path string, shapes map[string][2]int) error {
	header, end := map[string]any{}, 0
	for name, shape := range shapes {
		begin := end
		end += 4 * shape[0] * shape[1]
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": [2]int{begin, end}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	content := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return os.WriteFile(path, append(append(content, text...), make([]byte, end)...), 0o600)
}
