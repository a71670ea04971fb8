package kube

import "testing"

func TestALongTextIsCutBetweenRunes(t *testing.T) {
	for _, tt := range []struct {
		text  string
		bytes int
		want  string
	}{
		{"phi-4", 5, "phi-4"},
		{"phi-4-mini", 8, "phi-4…"},
		{"1 → 3: more", 6, "1 …"}, // the arrow has three bytes
		{"phi-4", 2, "…"},
		{"", 0, ""},
	} {
		if got := Shorten(tt.text, tt.bytes); got != tt.want {
			t.Errorf("%q in %d bytes is %q, want %q", tt.text, tt.bytes, got, tt.want)
		}
	}
}
