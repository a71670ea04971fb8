package report

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// unit is what one worker does at a time: everything on one load.
type unit struct {
	scenario, seed int
}

// Unit is what came of everything that is played on one load. It is a line of
// the journal.
type Unit struct {
	// Of says of which scenario, Seed of which seed, Study of what study and
	// program: see fingerprint.
	Of    string `json:"of"`
	Seed  uint64 `json:"seed"`
	Study string `json:"study"`
	// Runs, and Courses of the first seed, are by cold start and contender.
	Runs    [][]Run     `json:"runs"`
	Courses [][]*Course `json:"courses,omitempty"`
	// Speeds are by contender, of each of its runs.
	Speeds map[string][]float64 `json:"speeds"`
	// Oracle is what the first seed found, if it found one that attains the target.
	Oracle *simulate.Oracle `json:"oracle,omitempty"`
}

func (p *playing) blank(u unit) *Unit {
	played := &Unit{
		Of: p.Scenarios[u.scenario].Name, Seed: p.Seeds[u.seed], Study: p.fingerprint(u),
		Runs: make([][]Run, len(p.coldStarts(u.scenario))), Speeds: map[string][]float64{},
	}
	if u.seed == 0 {
		played.Courses = make([][]*Course, len(played.Runs))
	}
	return played
}

// write adds the unit to a journal, in one piece.
func (u *Unit) write(to io.Writer) error {
	line, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if _, err := to.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// fingerprint is of all that a unit's results depend on: the program and what
// it is to play, the load, and the first seed, whose oracle the others go by. How
// many seeds and which other loads there are makes no difference.
func (s *Study) fingerprint(u unit) string {
	type contender struct {
		Name, Words string
	}
	sc := &s.Scenarios[u.scenario]
	all := struct {
		Version, Load string
		Engine        simulate.Engine
		SLO           simulate.SLO
		Seed, First   uint64
		ColdStarts    []time.Duration
		Worlds        []simulate.Setting
		Contenders    []contender
		Jitter        time.Duration
		Copies        float64
		Trace         []simulate.Request
		Cancels       []float64
		AsIs          bool
		Long          simulate.LongPrompts
		Goes          simulate.Cancels
		Growth        simulate.Growth
		Rate          float64
	}{
		Version: s.Version, Load: sc.String(), Engine: s.Engine, SLO: s.SLO, Seed: s.Seeds[u.seed], First: s.Seeds[0],
		ColdStarts: s.coldStarts(u.scenario), Jitter: sc.Jitter, Copies: sc.Copies,
		Long: sc.Long, Goes: sc.Cancels, Growth: sc.Growth, Rate: sc.Rate,
	}
	for _, coldStart := range all.ColdStarts {
		all.Worlds = append(all.Worlds, s.setting(u.scenario, coldStart, s.Seeds[u.seed]))
	}
	for _, c := range s.contenders(u.scenario) {
		all.Contenders = append(all.Contenders, contender{c.Name, c.Words})
	}
	if sc.Trace != nil {
		all.Trace, all.Cancels, all.AsIs = sc.Trace.Requests, sc.Trace.Cancels, sc.AsIs
	}
	// Its own format is good enough: it is compared with that of the same program
	// alone.
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%+v", all) // of a hash
	return hex.EncodeToString(sum.Sum(nil))
}

// Recall takes in what an interrupted run of the same study wrote into its
// journal, and gives how many units that were, and how many others there are:
// of another program, or of a study with other parameters. A line that was cut
// off at the end is left out.
func (s *Study) Recall(journal io.Reader) (known, foreign int, err error) {
	s.recalled = nil
	mine := map[string]bool{}
	for i := range s.Scenarios {
		for k := range s.Seeds {
			mine[s.fingerprint(unit{i, k})] = true
		}
	}
	lines := bufio.NewReader(journal)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return len(s.recalled), foreign, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read the journal: %w", err)
		}
		var u Unit
		switch err := json.Unmarshal(bytes.TrimSpace(line), &u); {
		case err != nil:
			return 0, 0, fmt.Errorf("read the journal: unit %d: %w", len(s.recalled)+foreign+1, err)
		case !mine[u.Study]:
			foreign++
		case !slices.ContainsFunc(s.recalled, func(other Unit) bool { return other.Study == u.Study }):
			s.recalled = append(s.recalled, u)
		}
	}
}

// Recalled writes a journal of what was recalled, and of nothing else.
func (s *Study) Recalled(to io.Writer) error {
	for i := range s.recalled {
		if err := s.recalled[i].write(to); err != nil {
			return err
		}
	}
	return nil
}

// recall is the unit as it was recalled, nil if it wasn't.
func (s *Study) recall(u unit) *Unit {
	if len(s.recalled) == 0 {
		return nil
	}
	wanted := s.fingerprint(u)
	i := slices.IndexFunc(s.recalled, func(known Unit) bool { return known.Study == wanted })
	if i < 0 {
		return nil
	}
	return &s.recalled[i]
}
