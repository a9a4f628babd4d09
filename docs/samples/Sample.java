import static java.nio.charset.StandardCharsets.UTF_8;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Base64;

class Sample {
    public static void main(String[] arguments) throws Exception {
        var api = System.getenv("API");
        var credentials = System.getenv("TOKENSERVICE_USER") + ":" + System.getenv("TOKENSERVICE_PASSWORD");
        // issueToken
        var request = HttpRequest.newBuilder(URI.create(api + "/token"))
            .header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString("""
                {"nodeId": "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7", "user": "alice", "maxUses": 3, "expiresIn": 600}"""));
        // issueTokens
        var request = HttpRequest.newBuilder(URI.create(api + "/tokens"))
            .header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString("""
                {"tokens": [{"nodeId": "report-1", "user": "alice"}, {"nodeId": "report-2", "user": "alice"}]}"""));
        // useTokenByQuery
        var request = HttpRequest.newBuilder(URI.create(api + "/use?token=" + System.getenv("TOKEN")
            + "&user=alice&ipAddress=192.0.2.7&action=download"))
            .header("Idempotency-Key", "alice-opens-report-1");
        // useToken
        var request = HttpRequest.newBuilder(URI.create(api + "/use"))
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", "alice-opens-report-1")
            .POST(BodyPublishers.ofString("""
                {"token": "%s", "user": "alice", "ipAddress": "192.0.2.7", "action": "download"}""".formatted(System.getenv("TOKEN"))));
        // introspectToken
        var request = HttpRequest.newBuilder(URI.create(api + "/introspect"))
            .header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString("""
                {"token": "%s", "user": "alice"}""".formatted(System.getenv("TOKEN"))));
        // getToken
        var request = HttpRequest.newBuilder(URI.create(api + "/token/" + System.getenv("TOKEN_ID")));
        // revokeToken
        var request = HttpRequest.newBuilder(URI.create(api + "/token/" + System.getenv("TOKEN_ID")))
            .DELETE();
        // revokeTokens
        var request = HttpRequest.newBuilder(URI.create(api + "/revoke"))
            .header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString("""
                {"user": "alice"}"""));
        // getVersion
        var request = HttpRequest.newBuilder(URI.create(api + "/version"));
        // getOpenApi
        var request = HttpRequest.newBuilder(URI.create(api + "/openapi.json"));
        // end
        request.header("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials.getBytes(UTF_8)));
        var response = HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofString());
        if (response.statusCode() >= 400) throw new IllegalStateException(response.body());
        System.out.println(response.statusCode() + " " + response.body());
    }
}
