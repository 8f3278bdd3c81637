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

var errRefused = errors.New("refused")

func userOf(assertion string) (string, error) {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 || len(assertion) > 16384 {
		return "", errRefused
	}
	var head struct{ Alg, Typ, Kid string }
	var claims struct {
		Iss, Aud, Sub string
		Exp, Nbf      float64
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || decode(parts[0], &head) != nil || head.Alg != "ES256" || head.Typ != "gk+jwt" || len(signature) != 64 {
		return "", errRefused
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if k := key(head.Kid); k == nil || !ecdsa.Verify(k, digest[:], r, s) || decode(parts[1], &claims) != nil {
		return "", errRefused
	}
	now := float64(time.Now().UnixMilli()) / 1000
	if claims.Iss != issuer || claims.Aud != issuer || claims.Exp+30 <= now || claims.Nbf-30 > now {
		return "", errRefused
	}
	return claims.Sub, nil
}

func decode(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		values := request.Header.Values("X-Auth-Assertion")
		if len(values) == 1 {
			if user, err := userOf(values[0]); err == nil {
				fmt.Fprintf(response, "Hello %s", user)
				return
			}
		}
		http.Error(response, "Unauthorized", http.StatusUnauthorized)
	})))
}
