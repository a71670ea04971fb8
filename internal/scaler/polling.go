package scaler

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

const (
	// pollPatience is how long KEDA may not ask before that is told. KEDA polls every
	// 30 s and the HPA every 15 s; a KEDA that is replaced or drained is back within
	// two minutes. What is wrong is told within five.
	pollPatience = 4 * time.Minute
	// maxObservationGap is the longest time between two looks at a ScaledObject that counts as
	// looking on: beyond it, as after an outage of the API server, all begins anew.
	maxObservationGap = 6 * observeEvery
)

// KEDA is what is known of KEDA's installation, to say why it may not ask.
type KEDA struct {
	// Namespace is KEDA's, Secret the name of the one there that has its client
	// certificate, Authentication the ClusterTriggerAuthentication that names it.
	Namespace, Secret, Authentication string
	// Trouble says in words why the Secret isn't there, "" if it is; may be nil.
	Trouble func() string
	// Handshakes are those that failed on this replica; may be nil.
	Handshakes *Handshakes
}

// pollHistory is what is known of KEDA's asking for the triggers of one ScaledObject. A
// replica hears its own calls alone, so what KEDA and the HPA write into their
// objects counts as well.
type pollHistory struct {
	// lastObserved is the newest look.
	lastObserved time.Time
	// lastPoll is when KEDA was last known to ask; unless known is set, when the looking
	// began.
	lastPoll time.Time
	known    bool
	// answerable is since when there is an answer.
	answerable time.Time
	// active is the ScaledObject's lastActiveTime at the newest look: KEDA sets it at
	// each poll that was answered.
	active metav1.Time
	// overdue is set while KEDA does not ask.
	overdue bool
}

// pollState is whether KEDA asks, as far as one look can tell.
type pollState struct {
	// polls is set if KEDA asks.
	polls bool
	// overdueReason says in words since when it doesn't, and why; nil unless that is so.
	overdueReason func() string
}

// observe takes in the state of the objects and the recommendation at now.
func (a *pollHistory) observe(so *kedav1alpha1.ScaledObject, hpa *autoscalingv2.HorizontalPodAutoscaler, v decision.Recommendation, now time.Time) (asks bool) {
	active := metav1.Time{}
	if so.Status.LastActiveTime != nil {
		active = *so.Status.LastActiveTime
	}
	if now.Sub(a.lastObserved) > maxObservationGap {
		*a = pollHistory{lastPoll: now, answerable: now, active: active}
	}
	a.lastObserved = now
	asks = !active.Equal(&a.active) || scalingActive(hpa).Status == corev1.ConditionTrue || othersFail(so)
	a.active = active
	if asks {
		a.lastPoll, a.known = now, true
	}
	// An error of ours, or a fleet at zero, for which the HPA does nothing, looks
	// in the objects as if KEDA didn't ask.
	if v.Confidence == decision.Unknown || hpa != nil && v.Desired == 0 {
		a.answerable = now
	}
	a.overdue = now.Sub(a.lastPoll) >= pollPatience && now.Sub(a.answerable) >= pollPatience
	return asks || a.known && now.Sub(a.lastPoll) < observeEvery
}

// othersFail tells whether KEDA gets answers from some triggers and errors from
// others, of which not all are ours.
func othersFail(so *kedav1alpha1.ScaledObject) bool {
	foreign := false
	for i := range so.Spec.Triggers {
		foreign = foreign || so.Spec.Triggers[i].Metadata["inferenceSetName"] == ""
	}
	return foreign && readyCondition(so).Reason == "PartialTriggerError"
}

// lastPollText is in words since when KEDA has not asked.
func (a *pollHistory) lastPollText(so *kedav1alpha1.ScaledObject) string {
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
	switch {
	case a.known:
		return at(a.lastPoll)
	case !a.active.IsZero():
		return at(a.active.Time)
	case !so.CreationTimestamp.IsZero():
		return at(so.CreationTimestamp.Time) + ", when ScaledObject " + so.Name + " was made"
	}
	return at(a.lastPoll)
}

// whyNoPolls is the likely cause of KEDA's not asking.
func (k KEDA) whyNoPolls(so *kedav1alpha1.ScaledObject, hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if k.Trouble != nil {
		if trouble := k.Trouble(); trouble != "" {
			return "its client certificate isn't where KEDA would read it (" + quoteShort(trouble) + "): --keda-namespace (keda.namespace in the chart) must be KEDA's"
		}
	}
	if len(so.Status.Conditions) == 0 {
		return fmt.Sprintf("KEDA has not looked at ScaledObject %s at all. Either KEDA isn't running, or it doesn't watch namespace %s", so.Name, so.Namespace)
	}
	switch refused := k.Handshakes.lastFailure(pollPatience); refused {
	case "":
	case withoutTLS:
		return refused + ". A trigger needs enableTLS: \"true\" and an authenticationRef to the ClusterTriggerAuthentication " + k.Authentication
	default:
		return refused + ". " + k.tlsAdvice()
	}
	says, advice := k.statusText(so, hpa)
	return says + ". " + advice
}

// statusText is what KEDA, or else the HPA, says of a ScaledObject, and what to do.
func (k KEDA) statusText(so *kedav1alpha1.ScaledObject, hpa *autoscalingv2.HorizontalPodAutoscaler) (statusText, advice string) {
	either := k.tlsAdvice() + " Or a NetworkPolicy keeps KEDA from the scaler"
	if r := readyCondition(so); r.Status != metav1.ConditionTrue {
		statusText = fmt.Sprintf("KEDA says of ScaledObject %s: %s", so.Name, quoteShort(cmp.Or(r.Message, r.Reason, "nothing yet")))
		switch {
		case hasAny(statusText, "x509", "tls:", "certificate"):
			return statusText, k.tlsAdvice()
		case hasAny(statusText, "no such host", "refused", "timeout", "timed out", "deadline", "unreachable"):
			return statusText, "KEDA doesn't reach the scaler: a NetworkPolicy, or no ready pod behind its Service"
		}
		return statusText, either
	}
	if hpa == nil {
		return fmt.Sprintf("KEDA calls ScaledObject %s ready, but there is no HPA", so.Name), "Has KEDA's operator stopped?"
	}
	active := scalingActive(hpa)
	if active.Status == "" {
		return "the HPA has no status", "Is kube-controller-manager running?"
	}
	message := cmp.Or(active.Message, active.Reason)
	// The HPA names metric and selector first: 250 bytes that tell nothing.
	if _, told, found := strings.Cut(message, "external metrics API: "); found {
		message = told
	}
	statusText = "the HPA says: " + quoteShort(message)
	switch {
	case hasAny(statusText, "encountered error"): // of KEDA's operator, when a scaler has no answer
		return statusText, either
	case hasAny(statusText, "KEDA Metrics Service"): // of KEDA's metrics server, without an operator
		return statusText, "KEDA's operator isn't running"
	}
	return statusText, "Is KEDA's operator running, and its metrics server?"
}

// tlsAdvice is what to do if KEDA and the scaler don't trust each other.
func (k KEDA) tlsAdvice() string {
	return fmt.Sprintf("KEDA finds no Secret %s if it doesn't run in namespace %s (--keda-namespace, keda.namespace in the chart); "+
		"if it does, restart its operator, which may hold a connection from before that Secret.", k.Secret, k.Namespace)
}

// quoteShort quotes somebody else's words: 300 bytes of them.
func quoteShort(text string) string {
	return strconv.Quote(kube.Shorten(text, 300+len("…")))
}
