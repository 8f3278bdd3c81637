// Go, with the standard library alone.  Run: go run go_app.go
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	issuer    = os.Getenv("GATEKEEPER_ISSUER")
	client    = http.Client{Timeout: 5 * time.Second}
	mutex     sync.Mutex
	keys      = map[string]*ecdsa.PublicKey{}
	fetchedAt time.Time
)

// key seeks an unknown key once a minute, and renews known ones.
func key(kid string) *ecdsa.PublicKey {
	mutex.Lock()
	defer mutex.Unlock()
	if age := time.Since(fetchedAt); age > 5*time.Minute || (age > time.Minute && keys[kid] == nil) {
		fetchedAt = time.Now()
		if fetched := fetch(); len(fetched) > 0 {
			keys = fetched
		}
	}
	return keys[kid]
}

func fetch() map[string]*ecdsa.PublicKey {
	url := os.Getenv("GATEKEEPER_JWKS")
	if url == "" {
		url = issuer + "/.well-known/gatekeeper/jwks.json"
	}
	found := map[string]*ecdsa.PublicKey{}
	response, err := client.Get(url)
	if err != nil {
		return found
	}
	defer response.Body.Close()
	var set struct {
		Keys []struct{ Kid, Kty, Crv, X, Y string }
	}
	if json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&set) != nil {
		return found
	}
	for _, k := range set.Keys {
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		if k.Kty == "EC" && k.Crv == "P-256" && errX == nil && errY == nil {
			found[k.Kid] = &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
		}
	}
	return found
}

type claims struct {
	Iss, Aud, Sub string
	Exp, Nbf      *float64
	Roles         []string
	User, Session json.RawMessage // both are left out where they are long
}

var errRefused = errors.New("refused")

func claimsOf(assertion string) (*claims, error) {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 || len(assertion) > 16384 {
		return nil, errRefused
	}
	var head struct{ Alg, Typ, Kid string }
	var parameters map[string]any // the gate sets no others: no jwk, jku or crit
	said := &claims{}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || decode(parts[0], &head) != nil || decode(parts[0], &parameters) != nil || len(parameters) != 3 ||
		head.Alg != "ES256" || head.Typ != "gk+jwt" || len(signature) != 64 {
		return nil, errRefused
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if k := key(head.Kid); k == nil || !ecdsa.Verify(k, digest[:], r, s) || decode(parts[1], said) != nil {
		return nil, errRefused
	}
	now := float64(time.Now().UnixMilli()) / 1000
	if said.Iss != issuer || said.Aud != issuer || said.Sub == "" || said.Exp == nil || *said.Exp+30 <= now ||
		said.Nbf == nil || *said.Nbf-30 > now || !said.isOne() {
		return nil, errRefused
	}
	return said, nil
}

// isOne tells whether user and session are the subject's.
func (said *claims) isOne() bool {
	var user struct{ ID string }
	var session struct{ UserID string }
	return (said.User == nil || json.Unmarshal(said.User, &user) == nil && user.ID == said.Sub) &&
		(said.Session == nil || json.Unmarshal(said.Session, &session) == nil && session.UserID == said.Sub)
}

func decode(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// refuse leads to sign in who asks for a page.  Whose assertion is refused would only come back.
func refuse(response http.ResponseWriter, request *http.Request) {
	signIn := "/sign-in?callbackUrl=" + url.QueryEscape(request.RequestURI)
	mode := request.Header.Get("Sec-Fetch-Mode")
	isPage := mode == "navigate" || (mode == "" && strings.Contains(request.Header.Get("Accept"), "text/html"))
	response.Header().Set("Cache-Control", "no-store")
	if isPage && len(request.Header.Values("X-Auth-Assertion")) == 0 {
		response.Header().Set("Location", signIn)
		response.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(http.StatusUnauthorized)
	json.NewEncoder(response).Encode(map[string]string{"error": "Unauthorized", "signInUrl": signIn})
}

func serve(response http.ResponseWriter, request *http.Request) {
	var said *claims
	err := errRefused
	if values := request.Header.Values("X-Auth-Assertion"); len(values) == 1 {
		said, err = claimsOf(values[0])
	}
	switch {
	case err != nil && request.URL.Path != "/":
		refuse(response, request)
	case err != nil:
		fmt.Fprint(response, "Hello nobody")
	case request.URL.Path == "/api/me":
		response.Header().Set("Content-Type", "application/json")
		json.NewEncoder(response).Encode(map[string]json.RawMessage{"user": said.User, "session": said.Session})
	default:
		fmt.Fprintf(response, "Hello %s", said.Sub)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(serve)))
}
