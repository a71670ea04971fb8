package automatic

import (
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// moves takes the recommendation over, as the HPA does; what is ordered serves at once.
func (w *world) moves() {
	switch to := w.last.Replicas; {
	case to > w.fleet.Desired:
		w.fleet.Raised = w.now
		for range to - w.fleet.Desired {
			w.order().Phase = sample.Serving
		}
	case to < w.fleet.Desired:
		w.fleet.Lowered = w.now
		w.fleet.Replicas, w.fleet.Desired = w.fleet.Replicas[:to], to
	}
}

func TestNothingIsReleasedWhileOneCannotBeRead(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(20*time.Minute, 10)
	w.fleet.Replicas[1].Failure = "no answer within 2s"
	if w.plays(time.Hour, 10); w.lowest < 4 {
		t.Errorf("one of 4 can't be read, and %d are recommended: %s", w.lowest, w.last.Reason)
	}
}

func TestWhatHadNoRoomInTheWindowIsNotReleased(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(25*time.Minute, 10)
	w.plays(5*time.Minute, 45)
	if w.plays(20*time.Minute, 10); w.lowest < 4 {
		t.Errorf("25 minutes ago 4 were needed, and %d are recommended: %s", w.lowest, w.last.Reason)
	}
	if w.plays(20*time.Minute, 10); w.lowest > 3 {
		t.Errorf("for 40 minutes one would do, and %d are recommended: %s", w.lowest, w.last.Reason)
	}
}

func TestAReleaseThatWasTakenBackMakesTheNextWaitTwiceAsLong(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(35*time.Minute, 10)
	w.moves()
	w.plays(5*time.Minute, 55)
	w.moves()
	w.scaler.ColdStarts = []float64{600}
	if w.fleet.Desired < 4 {
		t.Fatalf("for 55 requests a second there are %d: %s", w.fleet.Desired, w.last.Reason)
	}
	had := w.fleet.Desired
	if w.plays(50*time.Minute, 10); w.lowest < had {
		t.Errorf("50 minutes after a release was taken back %d of %d are recommended", w.lowest, had)
	}
	if w.plays(20*time.Minute, 10); w.lowest >= had {
		t.Errorf("70 minutes after it %d of %d are recommended", w.lowest, had)
	}
}

func TestWhatDoesNotComeIsOrderedOnceMore(t *testing.T) {
	w := newWorld(t, 3)
	w.plays(20*time.Minute, 58)
	need := w.last.Replicas
	if need < 4 {
		t.Fatalf("58 requests a second need %d: %s", need, w.last.Reason)
	}
	for w.fleet.Desired < need {
		w.order().Phase = sample.Broken
	}
	w.plays(time.Minute, 58)
	if lost := need - 3; w.last.Replicas < need+lost {
		t.Errorf("%d of %d don't come, and %d are recommended: %s", lost, need, w.last.Replicas, w.last.Reason)
	}
}

// One that sleeps is replaced, but hides no load: the others' tell that fewer do.
func TestASleepingEngineHidesNoLoad(t *testing.T) {
	w := newWorld(t, 4)
	w.fleet.Replicas[0].Asleep = true
	if w.plays(45*time.Minute, 10); w.lowest != 3 {
		t.Errorf("one does, one sleeps, and of 4 %d are recommended: %s", w.lowest, w.last.Reason)
	}
}
