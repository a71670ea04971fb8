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

// do runs a command on the checkout in the working directory.
func do(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	var (
		opts       imageOptions
		unreleased = flags.Bool("unreleased", false, "a version without a section has what is under Unreleased")
		index      = flags.String("index", "", "the chart repository's index so far")
		platform   = flags.String("platform", "", "of this platform's image, not of the whole")
		platforms  = flags.String("platforms", "linux/amd64,linux/arm64", "for which platforms, with commas")
	)
	flags.StringVar(&opts.root, "root", ".", "the checkout of keda-kaito-scaler")
	flags.StringVar(&opts.into, "into", "build/image", "the folder to write to; what is in it goes")
	flags.StringVar(&opts.bin, "bin", "", "a folder for the programs alone, with an SBOM each; what is in it goes")
	flags.StringVar(&opts.version, "version", "", "the release's version; empty: what Go makes of the commit")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	opts.platforms = strings.Split(*platforms, ",")
	switch rest := flags.Args(); {
	case args[0] == "image" && len(rest) == 0:
		return run(ctx, opts)
	case args[0] == "check" && len(rest) == 1:
		return checkTag(opts.root, rest[0], *index, *unreleased)
	case args[0] == "notes" && len(rest) == 1:
		return printNotes(opts.root, rest[0], *unreleased)
	case args[0] == "set" && len(rest) == 1:
		return setVersion(opts.root, rest[0], time.Now())
	case args[0] == "push" && len(rest) == 2:
		return push(ctx, rest[0], rest[1])
	case args[0] == "digest" && len(rest) == 1:
		return printDigest(ctx, rest[0], *platform)
	case args[0] == "serve" && len(rest) > 0:
		return serve(ctx, rest[0], rest[1:])
	}
	return fmt.Errorf("%q: no such command, or not its arguments\n%s", strings.Join(args, " "), usage)
}
