//go:build linux

// Command attack does to the scaler what a hostile pod, tenant or stranger could,
// and holds it to the budgets of docs/security.md. The scaler is the program as
// it is built, a process of its own, beside a real API server; everything is on
// loopback. It ends with one line per figure, "figure NAME VALUE", within five
// minutes, and with an error if one is beyond its budget.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// longest is how long all of it may take: five minutes with the end of the
// processes.
const longest = 4*time.Minute + 45*time.Second

// figure is what was measured, with the most that it may be.
type figure struct {
	name   string
	value  float64
	budget float64
	unit   string
	// worst is the attack that it was under.
	worst string
}

// raise keeps the worst of an attack.
func (f *figure) raise(value float64, attack string) {
	if f.worst == "" || value > f.value {
		f.value, f.worst = value, attack
	}
}

func main() {
	be := flag.String("be", "", "one of the other processes: honest, pods, fetcher or stranger")
	var o options
	flag.StringVar(&o.binary, "binary", "", "the scaler's program")
	flag.StringVar(&o.only, "only", "", "parts to run, separated by commas: "+strings.Join(partNames(), ", ")+" (default: all)")
	flag.StringVar(&o.profiles, "profiles", "", "a folder for the scaler's heap and CPU profile at the end of each part")
	flag.Parse()
	err := nice(*be)
	if err != nil {
		fmt.Fprintf(os.Stderr, "attack: %v\n", err)
	}
	switch *be {
	case "pods":
		err = servePods()
	case "honest":
		err = servePods()
	case "fetcher":
		err = serveFetcher()
	case "stranger":
		err = serveStranger()
	default:
		os.Exit(run(o, os.Stdout, os.Stderr))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "attack: %s: %v\n", *be, err)
		os.Exit(1)
	}
}

// nice lets the processes of attackers come after all others: in truth they are on
// machines of their own, and here there may be two cores.
func nice(role string) error {
	if role == "" || role == honest {
		return nil
	}
	if err := syscall.Setpriority(syscall.PRIO_PGRP, 0, 10); err != nil {
		return fmt.Errorf("come after others: %w", err)
	}
	return nil
}

// options are what the flags say.
type options struct{ binary, only, profiles string }

// run is the whole program and returns its exit code.
func run(o options, out, progress io.Writer) int {
	silence()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	start := time.Now()
	figures, err := attack(ctx, o, progress)
	beyond := 0
	for _, f := range figures {
		outcome := "within"
		if f.value > f.budget {
			outcome = "BEYOND"
			beyond++
		}
		_, _ = fmt.Fprintf(out, "%-22s %8.2f %-5s %s its budget of %g; worst: %s\n", f.name, f.value, f.unit, outcome, f.budget, f.worst)
	}
	_, _ = fmt.Fprintf(out, "it took %s\n", time.Since(start).Round(time.Second))
	for _, f := range figures {
		_, _ = fmt.Fprintf(out, "figure %s %.2f\n", f.name, f.value)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		_, _ = fmt.Fprintf(out, "attack: not done within %s: %v\n", longest, err)
		return 1
	case err != nil:
		_, _ = fmt.Fprintf(out, "attack: %v\n", err)
		return 1
	case beyond > 0:
		_, _ = fmt.Fprintf(out, "attack: %d figures are beyond their budgets\n", beyond)
		return 1
	}
	return 0
}

// silence is for the libraries of the API server's clients.
func silence() {
	quiet := logr.FromSlogHandler(slog.DiscardHandler)
	klog.SetLogger(quiet)
	ctrllog.SetLogger(quiet)
}
