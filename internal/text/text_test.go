package text

import (
	"testing"
	"time"
)

func TestNumbersHaveTheDigitsThatMatter(t *testing.T) {
	for _, tt := range []struct {
		x      float64
		others []float64
		want   string
	}{
		{14, []float64{10}, "14"},
		{14.33333, []float64{10}, "14.3"},
		{10.001, []float64{10, 1}, "10.001"},
		{0.0123456, nil, "0.0123"},
		{123456.789, nil, "123457"},
		{2, nil, "2"},
	} {
		if got := Distinct(tt.x, tt.others...); got != tt.want {
			t.Errorf("%v beside %v is told as %s, want %s", tt.x, tt.others, got, tt.want)
		}
	}
	for d, want := range map[time.Duration]string{
		59 * time.Second: "59 s", time.Minute: "1 min", 90 * time.Second: "90 s", 5 * time.Minute: "5 min",
		601 * time.Second: "11 min", time.Hour: "1 h", 90 * time.Minute: "90 min",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v is told as %s, want %s", d, got, want)
		}
	}
	if got := Join([]string{"a", "b", "c"}); got != "a, b and c" {
		t.Error(got)
	}
}
