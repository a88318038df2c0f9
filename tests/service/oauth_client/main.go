// Command oauth_client gets a token by golang.org/x/oauth2/clientcredentials and uses it once, as any Go program would.
//
// The environment says what and where: TOKEN_URL, CLIENT_ID, CLIENT_SECRET, SCOPES (words), AUTH_STYLE (detect, params or header)
// and RESOURCE_URL, which is asked with the token. What came of it is one JSON object on standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

var authStyles = map[string]oauth2.AuthStyle{
	"detect": oauth2.AuthStyleAutoDetect,
	"params": oauth2.AuthStyleInParams,
	"header": oauth2.AuthStyleInHeader,
}

type outcome struct {
	TokenType      string `json:"token_type,omitempty"`
	Scope          any    `json:"scope,omitempty"`
	LifeSeconds    int    `json:"life_seconds,omitempty"`
	ResourceStatus int    `json:"resource_status,omitempty"`
	ResourceBody   string `json:"resource_body,omitempty"`
	ErrorStatus    int    `json:"error_status,omitempty"`
	ErrorCode      string `json:"error_code,omitempty"`
	ErrorText      string `json:"error_text,omitempty"`
}

func main() {
	found, err := ask(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}

func ask(ctx context.Context) (*outcome, error) {
	config := clientcredentials.Config{
		TokenURL:     os.Getenv("TOKEN_URL"),
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		Scopes:       strings.Fields(os.Getenv("SCOPES")),
		AuthStyle:    authStyles[os.Getenv("AUTH_STYLE")],
	}
	source := config.TokenSource(ctx)
	token, err := source.Token()
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return &outcome{ErrorStatus: refused.Response.StatusCode, ErrorCode: refused.ErrorCode, ErrorText: refused.ErrorDescription}, nil
	}
	if err != nil {
		return nil, err
	}
	response, err := oauth2.NewClient(ctx, source).Get(os.Getenv("RESOURCE_URL"))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return &outcome{
		TokenType:      token.Type(),
		Scope:          token.Extra("scope"),
		LifeSeconds:    int(time.Until(token.Expiry).Seconds()),
		ResourceStatus: response.StatusCode,
		ResourceBody:   string(body),
	}, nil
}
