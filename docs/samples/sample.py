import os

import tokenservice_client

user, password = os.environ["TOKENSERVICE_USER"], os.environ["TOKENSERVICE_PASSWORD"]
with tokenservice_client.TokenServiceClient(os.environ["API"], user, password) as client:
    # issueToken
    print(client.issue("f2f42052-6e24-4c54-bc15-1e0bb6dce9f7", user="alice", max_uses=3, expires_in=600).token)
    # issueTokens
    reports = [tokenservice_client.Terms(node_id="report-1"), tokenservice_client.Terms(node_id="report-2")]
    print([issued.token for issued in client.issue_many(reports)])
    # useToken
    print(client.use(os.environ["TOKEN"], user="alice", ip_address="192.0.2.7", action="download").node_id)
    # introspectToken
    print(client.introspect(os.environ["TOKEN"], user="alice").active)
    # getToken
    print(client.status(os.environ["TOKEN_ID"]).uses_remaining)
    # revokeToken
    client.revoke(os.environ["TOKEN_ID"])
    # revokeTokens
    print(client.revoke_all(user="alice"))
    # getVersion
    print(client.version().version)
