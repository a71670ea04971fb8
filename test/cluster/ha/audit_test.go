package ha

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// request is a line of the API server's audit log.
type request struct {
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

// requests are all that the scalers' account has made so far.
func requests(t *testing.T) []request {
	t.Helper()
	data, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	var all []request
	for line := range bytes.Lines(data) {
		var r request
		if json.Unmarshal(line, &r) == nil { // the last line may be half there
			all = append(all, r)
		}
	}
	return all
}
