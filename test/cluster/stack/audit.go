package stack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// AuditPolicy records every request of the scaler's account, reads too.
const AuditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:` + Namespace + ":" + Account + `"]
- level: None
`

// Request is a line of the API server's audit log.
type Request struct {
	Verb   string `json:"verb"`
	URI    string `json:"requestURI"`
	Stage  string `json:"stage"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Status struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Received time.Time `json:"requestReceivedTimestamp"`
}

// Requests are all that stand in an audit log so far.
func Requests(auditLog string) ([]Request, error) {
	data, err := os.ReadFile(auditLog) //nolint:gosec // a file of the test's own
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	var all []Request
	for line := range bytes.Lines(data) {
		var r Request
		if json.Unmarshal(line, &r) == nil { // the last line may be half there
			all = append(all, r)
		}
	}
	return all, nil
}
