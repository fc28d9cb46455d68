// What a Go programmer would write: httputil.ReverseProxy, and a mirror that is bounded and never waited for. It reads
// both answers, as one must who compares them, and throws them away.
//
//	mirrorproxy LISTEN MODEL [CANDIDATE PERCENT]
package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"math/rand"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	inFlight = 64
	most     = 1 << 20
	patience = 2 * time.Second
)

type captured struct {
	http.ResponseWriter
	body []byte
}

func (c *captured) Write(p []byte) (int, error) {
	if len(c.body) < most {
		c.body = append(c.body, p...)
	}
	return c.ResponseWriter.Write(p)
}

func (c *captured) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func main() {
	model, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(model); r.Out.Host = r.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	if len(os.Args) < 5 {
		log.Fatal(http.ListenAndServe(os.Args[1], proxy))
	}
	candidate := os.Args[3]
	percent, err := strconv.ParseFloat(os.Args[4], 64)
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight, DisableCompression: true},
	}
	room := make(chan struct{}, inFlight)
	mirror := func(method, url string, header http.Header, body []byte) {
		defer func() { <-room }()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
		if err != nil {
			return
		}
		request.Header = header
		response, err := client.Do(request)
		if err != nil {
			return
		}
		defer response.Body.Close()
		io.Copy(io.Discard, io.LimitReader(response.Body, most))
	}
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.Float64()*100 >= percent {
			proxy.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, most))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(&captured{ResponseWriter: w}, r)
		select {
		case room <- struct{}{}:
			go mirror(r.Method, candidate+r.URL.RequestURI(), r.Header.Clone(), body)
		default: // shed
		}
	})))
}
