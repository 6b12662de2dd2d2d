"""The dashboard: a small web server beside the gateway that reads its store and never writes to it.

server.py is the process, app.py its routes, model.py what they show; guard.py and password.py keep strangers out.
"""
