// The AWS SDK for Go: calls STS every second and prints the access key that signed the call, or the error.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

type result struct {
	Key   string `json:"key,omitempty"`
	Error string `json:"error,omitempty"`
}

var credential = regexp.MustCompile(`Credential=([A-Z0-9]+)/`)

// transport records the access key that signed the last request.
type transport struct {
	sts.HTTPClient
	key string
}

func (t *transport) Do(request *http.Request) (*http.Response, error) {
	if match := credential.FindStringSubmatch(request.Header.Get("Authorization")); match != nil {
		t.key = match[1]
	}
	return t.HTTPClient.Do(request)
}

func main() {
	settings, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		panic(err)
	}
	var recorder transport
	client := sts.NewFromConfig(settings, func(options *sts.Options) {
		// A retry would hide a failed call.
		options.Retryer = aws.NopRetryer{}
		recorder.HTTPClient = options.HTTPClient
		options.HTTPClient = &recorder
	})
	lines := json.NewEncoder(os.Stdout)
	for second := time.Tick(time.Second); ; <-second {
		line := result{}
		if _, err := client.GetCallerIdentity(context.Background(), nil); err != nil {
			line.Error = err.Error()
		} else {
			line.Key = recorder.key
		}
		lines.Encode(line)
	}
}
