# issueToken
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/token" \
    -H 'Content-Type: application/json' \
    -d @- <<END
{"nodeId": "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7", "user": "alice", "maxUses": 3, "expiresIn": 600}
END
# issueTokens
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/tokens" \
    -H 'Content-Type: application/json' \
    -d @- <<END
{"tokens": [{"nodeId": "report-1", "user": "alice"}, {"nodeId": "report-2", "user": "alice"}]}
END
# useTokenByQuery
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" -G "$API/use" \
    --data-urlencode "token=$TOKEN" \
    --data-urlencode "user=alice" \
    --data-urlencode "ipAddress=192.0.2.7" \
    --data-urlencode "action=download" \
    -H 'Idempotency-Key: alice-opens-report-1'
# useToken
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/use" \
    -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: alice-opens-report-1' \
    -d @- <<END
{"token": "$TOKEN", "user": "alice", "ipAddress": "192.0.2.7", "action": "download"}
END
# introspectToken
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/introspect" \
    -H 'Content-Type: application/json' \
    -d @- <<END
{"token": "$TOKEN", "user": "alice"}
END
# getToken
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/token/$TOKEN_ID"
# revokeToken
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" -X DELETE "$API/token/$TOKEN_ID"
# revokeTokens
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/revoke" \
    -H 'Content-Type: application/json' \
    -d @- <<END
{"user": "alice"}
END
# getVersion
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/version"
# getOpenApi
curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" "$API/openapi.json"
