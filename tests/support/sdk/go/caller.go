// The AWS SDK for Go: calls STS each second with what it finds by itself, and tells which key signed, or what failed.
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

type told struct {
	Key   string `json:"key,omitempty"`
	Error string `json:"error,omitempty"`
}

var credential = regexp.MustCompile(`Credential=([A-Z0-9]+)/`)

// transport takes note of the key that signed, beside what the client does by itself.
type transport struct {
	sts.HTTPClient
	key string
}

func (it *transport) Do(request *http.Request) (*http.Response, error) {
	if found := credential.FindStringSubmatch(request.Header.Get("Authorization")); found != nil {
		it.key = found[1]
	}
	return it.HTTPClient.Do(request)
}

func main() {
	settings, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		panic(err)
	}
	var seen transport
	client := sts.NewFromConfig(settings, func(options *sts.Options) {
		// No second attempt: it would hide that the first one failed.
		options.Retryer = aws.NopRetryer{}
		seen.HTTPClient = options.HTTPClient
		options.HTTPClient = &seen
	})
	lines := json.NewEncoder(os.Stdout)
	for second := time.Tick(time.Second); ; <-second {
		line := told{}
		if _, err := client.GetCallerIdentity(context.Background(), nil); err != nil {
			line.Error = err.Error()
		} else {
			line.Key = seen.key
		}
		lines.Encode(line)
	}
}
