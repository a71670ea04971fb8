// Package kube has what all objects and events have in common that the scaler
// writes.
package kube

import (
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// Name is the scaler's: of its events, its mark on objects, and the Lease.
	Name = "keda-kaito-scaler"
	// FieldOwner owns what the scaler writes into objects.
	FieldOwner = client.FieldOwner(Name)
	// ManagedByLabel marks the scaler's own objects, with Name as its value.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// MaxNote is the longest note of an event that the API server takes, in bytes.
	MaxNote = 1024
)

// Shorten cuts a text to a number of bytes, with "…" at its end.
func Shorten(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	// The cut may split a rune, which ToValidUTF8 drops.
	return strings.ToValidUTF8(text[:max(0, bytes-len("…"))], "") + "…"
}
