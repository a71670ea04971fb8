// Command release makes what a release publishes, checks whether it may be
// published, pushes its image, and serves it on loopback to be tried.
// hack/release.sh puts these together.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

const usage = `usage:
  release image [-root .] [-into build/image] [-bin FOLDER] [-platforms linux/amd64,…] [-version 0.7.0]
      the container image, an SBOM for each platform, the programs alone
  release check [-unreleased] [-index index.yaml] v0.7.0
      whether this tag may be published of this checkout
  release notes [-unreleased] 0.7.0
      what CHANGELOG.md says of a version
  release set 0.8.0
      writes the version to all places that have it
  release push LAYOUT NAME
      an OCI layout into a registry; prints the digest
  release digest [-platform linux/amd64] NAME
      the digest of an image or a chart in a registry
  release serve FOLDER [COMMAND…]
      a chart repository and an empty registry on loopback, while the command runs
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := do(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

// options are the flags of all commands.
type options struct {
	imageOptions
	unreleased      bool
	index, platform string
}

// command is run with the arguments that are left beside its flags: so many, or
// as many and more if it is negative.
type command struct {
	args int
	run  func(ctx context.Context, o *options, args []string) error
}

var commands = map[string]command{
	"image": {0, func(ctx context.Context, o *options, _ []string) error { return run(ctx, o.imageOptions) }},
	"check": {1, func(_ context.Context, o *options, args []string) error {
		return checkTag(o.root, args[0], o.index, o.unreleased)
	}},
	"notes": {1, func(_ context.Context, o *options, args []string) error {
		return printNotes(o.root, args[0], o.unreleased)
	}},
	"set": {1, func(_ context.Context, o *options, args []string) error {
		return setVersion(o.root, args[0], time.Now())
	}},
	"push": {2, func(ctx context.Context, _ *options, args []string) error { return push(ctx, args[0], args[1]) }},
	"digest": {1, func(ctx context.Context, o *options, args []string) error {
		return printDigest(ctx, args[0], o.platform)
	}},
	"serve": {-1, func(ctx context.Context, _ *options, args []string) error { return serve(ctx, args[0], args[1:]) }},
}

func do(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flags.StringVar(&o.root, "root", ".", "the checkout of keda-kaito-scaler")
	flags.StringVar(&o.into, "into", "build/image", "the folder to write to; what is in it goes")
	flags.StringVar(&o.bin, "bin", "", "a folder for the programs alone, with an SBOM each; what is in it goes")
	flags.StringVar(&o.version, "version", "", "the release's version; empty: what Go makes of the commit")
	flags.BoolVar(&o.unreleased, "unreleased", false, "a version without a section has what is under Unreleased")
	flags.StringVar(&o.index, "index", "", "the chart repository's index so far")
	flags.StringVar(&o.platform, "platform", "", "of this platform's image, not of the whole")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "for which platforms, with commas")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	o.platforms = strings.Split(*platforms, ",")
	c, found := commands[args[0]]
	if n := flags.NArg(); !found || c.args >= 0 && n != c.args || n < -c.args {
		return fmt.Errorf("%q: no such command, or not its arguments\n%s", strings.Join(args, " "), usage)
	}
	return c.run(ctx, &o, flags.Args())
}
