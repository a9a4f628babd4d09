"""Nothing but the runtime client."""


def app(event, context):
    return {"statusCode": 200, "headers": {}, "body": "{}"}
