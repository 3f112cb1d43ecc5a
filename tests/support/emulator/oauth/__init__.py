"""An OAuth issuer beside AWS, over https with a CA of its own: strict, rotating, unforgiving.

app        HTTP in, one grant, HTTP out
grants     grant types, and the tokens that they give
clients    who may ask
families   refresh tokens, each good for once
issuer     what this issuer knows
authority  the CA and the certificate of the server
refusal    how it refuses
asking     what a client of it sends
"""
