package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The cache keeps what Bounded leaves, so it must come to the same.
func TestBoundedAnnotationsMeanTheSame(t *testing.T) {
	long := strings.Repeat("x", 250<<10)
	many := map[string]string{"auto-provision": "true", "max-replicas": "5"}
	for i := range 1000 {
		many[fmt.Sprintf("unknown-%03d", i)] = "x"
	}
	for name, annotations := range map[string]map[string]string{
		"as in the quick start":     {"auto-provision": "true", "threshold": "10", "max-replicas": "5"},
		"a typo":                    {"auto-provision": "true", "treshold": "10", "max-replicas": "5"},
		"a long value":              {"auto-provision": "true", "threshold": "1" + strings.Repeat("0", 2000), "max-replicas": "5"},
		"a long metric":             {"auto-provision": "true", "threshold": "1", "metricName": long, "max-replicas": "5"},
		"a long list":               {"auto-provision": "true", "metrics": "[" + long + "]", "max-replicas": "5"},
		"a long list of lines":      {"auto-provision": "true", "metrics": strings.Repeat("- a line of a very long list\n", 8000), "max-replicas": "5"},
		"a list padded with blanks": {"auto-provision": "true", "metrics": "[{name: a:b, type: gauge, upthreshold: 2, downthreshold: 1}]" + strings.Repeat(" ", 200<<10), "max-replicas": "5"},
		"a long unknown value":      {"auto-provision": "true", "treshold": long, "max-replicas": "5"},
		"many that are unknown":     many,
	} {
		t.Run(name, func(t *testing.T) {
			whole := map[string]string{"others/annotation": long}
			for key, value := range annotations {
				whole[Prefix+key] = value
			}
			bounded := Bounded(whole)
			size := 0
			for key, value := range bounded {
				size += len(key) + len(value)
			}
			if size > maxListBytes+32<<10 {
				t.Errorf("%d bytes are kept", size)
			}
			before, _, err1 := Parse(Request{Annotations: whole})
			after, _, err2 := Parse(Request{Annotations: bounded})
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("policy (-whole +bounded):\n%s", diff)
			}
			told := func(err error) string {
				text, _, _ := strings.Cut(fmt.Sprint(err), "; and ")
				return text
			}
			if diff := cmp.Diff(told(err1), told(err2)); diff != "" {
				t.Errorf("refusal (-whole +bounded):\n%s", diff)
			}
		})
	}
}

func TestALongAnnotationIsRefusedInWords(t *testing.T) {
	_, _, err := Parse(Request{Annotations: map[string]string{
		Prefix + "threshold": "10", Prefix + "max-replicas": strings.Repeat("0", maxValue) + "5",
	}})
	if err == nil || !strings.Contains(err.Error(), "max-replicas") || !strings.Contains(err.Error(), "must have at most 1024 bytes") {
		t.Errorf("error %v, want one that names the length", err)
	}
	_, err = ParseTrigger("default", map[string]string{"inferenceSetName": "phi-4", "threshold": "10", "other": strings.Repeat("x", MaxMetadata)})
	if err == nil || !strings.Contains(err.Error(), "must have at most 20480 bytes in all") {
		t.Errorf("error %v, want one that names the length", err)
	}
}
