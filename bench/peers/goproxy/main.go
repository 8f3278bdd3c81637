// A session-checking reverse proxy as one writes it in Go with the standard library alone.
//
// It verifies the HMAC of the session cookie, redirects or refuses without one, strips identity headers and sets its
// own.  It has no session store: the signature is all it checks.  /dashboard/ws goes to the echo server.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

var secret []byte

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// verify returns the token of a signed cookie, or "" where the signature is wrong.
func verify(value string) string {
	text, err := url.PathUnescape(value)
	if err != nil {
		return ""
	}
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return ""
	}
	given, err := base64.StdEncoding.DecodeString(text[dot+1:])
	if err != nil {
		return ""
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text[:dot]))
	if !hmac.Equal(given, mac.Sum(nil)) {
		return ""
	}
	return text[:dot]
}

func tokenOf(r *http.Request) string {
	cookie, err := r.Cookie("better-auth.session_token")
	if err != nil {
		return ""
	}
	return verify(cookie.Value)
}

func stripIdentity(header http.Header) {
	for name := range header {
		if strings.HasPrefix(name, "X-Auth-") {
			delete(header, name)
		}
	}
}

func refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/sign-in?callbackUrl="+url.QueryEscape(r.URL.RequestURI()), http.StatusTemporaryRedirect)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	w.Write([]byte(`{"error":"Unauthorized","code":"NO_COOKIE"}`))
}

func proxyTo(address string) http.Handler {
	target := &url.URL{Scheme: "http", Host: address}
	pool := &buffers{sync.Pool{New: func() any { p := make([]byte, 32<<10); return &p }}}
	return &httputil.ReverseProxy{
		BufferPool: pool,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConns:        256,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     5 * time.Minute,
			DisableCompression:  true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	upstream := flag.String("upstream", "127.0.0.1:3000", "the app")
	echo := flag.String("echo", "127.0.0.1:3001", "the WebSocket server")
	key := flag.String("secret", "", "the cookie's secret")
	user := flag.String("user", "", "who the session's user is")
	flag.Parse()
	secret = []byte(*key)
	app, ws := proxyTo(*upstream), proxyTo(*echo)
	handler := func(w http.ResponseWriter, r *http.Request) {
		stripIdentity(r.Header)
		if strings.HasPrefix(r.URL.Path, "/dashboard") || strings.HasPrefix(r.URL.Path, "/settings") {
			if tokenOf(r) == "" {
				refuse(w, r)
				return
			}
			r.Header.Set("X-Auth-Status", "authenticated")
			r.Header.Set("X-Auth-User-Id", *user)
		}
		if r.URL.Path == "/dashboard/ws" {
			ws.ServeHTTP(w, r)
			return
		}
		app.ServeHTTP(w, r)
	}
	server := &http.Server{Addr: *listen, Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
