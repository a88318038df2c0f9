// Reference: net/http with a handler that does nothing, on one thread.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nothing))
}
